"""Architecture adapters: what a method may know of a model, a module a family of architectures."""
