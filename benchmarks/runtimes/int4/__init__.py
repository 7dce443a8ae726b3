"""INT8 products of uniformly quantized models on the CPU, 4-bit weights stored two a byte."""
