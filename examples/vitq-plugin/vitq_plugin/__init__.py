"""What a package may add to vitq: a method, a model, a data set and a runtime."""
