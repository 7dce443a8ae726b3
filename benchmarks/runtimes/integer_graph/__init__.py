"""I-ViT's integer networks as ONNX graphs of integer operators, which onnxruntime and TVM run bit for bit."""
