"""PSAQ-ViT (arXiv 2203.02250): data-free quantization from generated images."""
