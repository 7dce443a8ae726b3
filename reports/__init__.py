"""Pure functions of records and figures: verdicts, tables, plots. Needs no torch."""
