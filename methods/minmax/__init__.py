"""The plain baseline: uniform grids over plain ranges."""
