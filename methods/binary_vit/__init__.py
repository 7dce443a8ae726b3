"""BinaryViT (arXiv 2305.14730), a reconstruction: one bit for weights and activations."""
