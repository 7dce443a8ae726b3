"""`python -m vitq`, the same as the `vitq` command."""

from vitq.benchmarks.cli import main

main()
