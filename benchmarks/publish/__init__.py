"""Publishing results: suites run to their end, their records without what is of one machine, tables and pictures."""
