"""PSAQ-ViT V2 (arXiv 2209.05687), a reconstruction: images and quantized student evolve in turn."""
