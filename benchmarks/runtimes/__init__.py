"""Runtimes: what compiles a stored quantized model for this machine and runs it, each an optional package."""
