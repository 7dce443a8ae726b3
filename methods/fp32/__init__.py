"""The floating-point model itself, the row that every method is compared with."""
