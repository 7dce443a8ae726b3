"""The Python interface: what `import vitq` offers, by the very path that a run of a suite takes."""
