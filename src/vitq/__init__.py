"""vitq: the reproducibility benchmark suite for quantized vision transformers."""

__version__ = "0.1.0"
