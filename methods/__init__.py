"""Quantization methods and the layers they stand on; imports torch and timm, and nothing else of vitq."""
