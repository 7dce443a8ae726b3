"""The binary engine of BinaryViT: packing, xor and popcount in numba, every number that of the packed form in torch."""
