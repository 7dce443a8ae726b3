"""I-ViT: integer-only inference of vision transformers (arXiv 2207.01405)."""
