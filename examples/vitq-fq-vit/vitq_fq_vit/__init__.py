"""FQ-ViT (arXiv 2111.13824) as a method of vitq, written from published descriptions of its code."""
