"""Running orders: the driver, the processes that cells run in, and the records that they leave."""
