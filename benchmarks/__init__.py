"""The harness: suites, cells, runner, store, accounting, latency, gate, command line."""
