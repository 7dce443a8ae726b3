"""From a suite and a site file to orders: cells, and what decides each of their measurements."""
