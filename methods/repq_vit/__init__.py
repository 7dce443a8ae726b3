"""RepQ-ViT (arXiv 2212.08254): post-training quantization by scale reparameterization."""
