"""PTQ4ViT (arXiv 2111.12293) as a method of vitq, written from published descriptions of its code."""
