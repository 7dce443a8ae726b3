"""Models that others quantized: whatever maps images [B, 3, H, W] to logits, from a file, is evaluated like any cell.

    open_foreign(path, wanted=None, *, threads=None, trust=False) -> Opened          (vitq.benchmarks.foreign.opening)
        An ONNX, OpenVINO, TorchScript or torch.export file, or a state dict of torchao beside the architecture it is
        `like`. `.model` is an nn.Module that takes images and gives logits, `.model.facts` says who made it and what it
        weighs, `.preprocessing` how images are made.
    Wanted(like, mean, std, size, crop_pct, interpolation)                            (vitq.benchmarks.foreign.inputs)
        What a user says of how images become the input; what is None is read from the file where vitq wrote it.
    evaluate_foreign(path, dataset, *, places, results, wanted=None, limit=None, latency=None, ...) -> Row
        Measures it and keeps its records in a results folder, where `vitq show`, `report` and `compare` find its row
        under the method `elsewhere`; a measurement that is there already is not made again.
                                                                                  (vitq.benchmarks.foreign.evaluating)

No code of a file is executed. A pickle is read by torch's restricted unpickler alone (`weights_only`); TorchScript runs
in its own interpreter, which knows nothing but torch's operators, and is refused where it names one that opens files or
a library's; what torch.export wrote is refused until `trust` says that it is one's own, because torch reads it with
pickle and evaluates expressions in it. ONNX operators of other domains than the standard's and onnxruntime's are
refused by name, and OpenVINO is given no extension.
"""
