"""What methods share: quantizers, observers, quantized layers, and models as files."""
