"""I-ViT's integers and BinaryViT's bits on a GPU: kernels in Triton, a whole call captured in one CUDA graph."""
