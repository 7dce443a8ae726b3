from vitq.benchmarks.cli import main

main()
