"""I-ViT (arXiv 2207.01405): integer-only inference by quantization-aware training."""
