"""From a model to ONNX in QDQ form: quantize and dequantize operators, which runtimes make integer kernels of."""
