"""The integer-only engine of I-ViT: fused numba kernels, bit for bit equal to the integer form in torch."""
