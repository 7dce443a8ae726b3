"""What the commands of `vitq` do, from arguments to exit code."""
