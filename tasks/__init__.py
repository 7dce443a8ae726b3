"""Tasks: load a model with its preprocessing, make batches, evaluate."""
