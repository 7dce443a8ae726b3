"""ONNX files that others wrote, run by onnxruntime: read without executing anything, refused by name where unknown."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from vitq.benchmarks.foreign.model import Facts, ForeignModel
from vitq.benchmarks.runtimes.registry import load
from vitq.digests import file_sha256
from vitq.errors import BadInputError

DOMAINS = ("", "ai.onnx", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains of operators that onnxruntime has without a library of others."""
QUANTIZER = "onnx.quantize"
"""What onnxruntime's quantizer calls itself."""


def open_onnx(path: Path, threads: int) -> ForeignModel:
    """The model of a file in a session on the CPU; BadInputError, in one line, for what cannot be read or run."""
    import onnxruntime

    from vitq.benchmarks.foreign.onnx_counts import counted_model
    from vitq.benchmarks.runtimes.onnx_runtime import OnnxRuntimeModel, session_of

    missing = load("onnxruntime").missing()
    if missing:
        raise BadInputError(missing)
    model = read(path)
    files = [path, *_external(model, path)]
    _check_domains(model, path)
    images, sides, batch = _input(model, path)
    output = _output(model, path)
    try:
        session, executed = session_of(_whole(path, files), threads, torch.device("cpu"))
    except Exception as error:  # onnxruntime's own have no common kind
        raise BadInputError(f"{path.name}: {_first_line(error)}") from None
    facts = Facts(
        path=path,
        format="onnx",
        made_by=made_by(model),
        bytes=sum(file.stat().st_size for file in files),
        sha256=_digest(files),
        runtime="onnxruntime",
        version=onnxruntime.__version__,
        batch=batch,
        sides=sides,
        written={entry.key: entry.value for entry in model.metadata_props},
        operators=executed,
    )

    def run(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run([output], {images: pixels.numpy()})[0])

    counted = counted_model(model, path, facts)
    exec = OnnxRuntimeModel(session, executed, counted.bits != "FP32").exec
    return ForeignModel(run, replace(counted, exec=exec))


def read(path: Path) -> Any:
    """The file's graph without data that lies outside; BadInputError where it is no ONNX."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read as ONNX: {_first_line(error)}") from None
    if not model.graph.node:
        raise BadInputError(f"{path} cannot be read as ONNX: its graph is empty")
    return model


def made_by(model: Any) -> str:
    """Who wrote a file, as it says."""
    producer = " ".join(filter(None, (model.producer_name.strip(), model.producer_version.strip())))
    if model.producer_name == QUANTIZER:
        return f"onnxruntime ({producer})"
    return producer or "unnamed"


def nodes(model: Any) -> Iterator[Any]:
    """Every node of a model: those of its graph, of graphs inside nodes, and of its functions."""
    yield from _nodes(model.graph)
    for function in model.functions:
        yield from _nodes(function)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _nodes(inner)


def _check_domains(model: Any, path: Path) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in nodes(model):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise BadInputError(
                f"{path.name} has an operator {node.op_type} of domain {node.domain}, which onnxruntime has only "
                "with a library of others: export it with standard operators"
            )


def _external(model: Any, path: Path) -> list[Path]:
    """Files beside the model that hold its data; BadInputError for a place outside its folder, or a missing one."""
    names = sorted({entry.value for t in _tensors(model) for entry in t.external_data if entry.key == "location"})
    found = []
    for name in names:
        plain = PurePosixPath(name)
        if plain.is_absolute() or ".." in plain.parts or "\\" in name:
            raise BadInputError(f"{path.name} keeps data at {name!r}, outside its folder: save it anew in one file")
        file = path.parent / plain
        try:
            inside = stat.S_ISREG(file.lstat().st_mode)
        except OSError:
            inside = False
        if not inside:
            raise BadInputError(f"{path.name} keeps data in {name!r}, which does not lie beside it: put it there")
        found.append(file)
    return found


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _whole(path: Path, files: list[Path]) -> bytes | str:
    """What a session is made of: the file's bytes, or its path where data lies beside it."""
    return path.read_bytes() if len(files) == 1 else str(path)


def _digest(files: list[Path]) -> str:
    if len(files) == 1:
        return file_sha256(files[0])
    lines = "".join(f"{file.name}\0{file_sha256(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _input(model: Any, path: Path) -> tuple[str, tuple[int | None, int | None], int | None]:
    """Name of the images, height and width, and the batch that is fixed; BadInputError for other inputs."""
    import onnx

    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise BadInputError(f"{path.name} takes {len(inputs)} inputs ({names}), where images alone are wanted")
    kind = inputs[0].type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        name = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise BadInputError(f"{path.name} takes {name.lower()} images, where float ones are wanted: export it so")
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    if len(dims) != 4 or dims[1] not in (3, None):
        shape = " x ".join("any" if dim is None else str(dim) for dim in dims)
        raise BadInputError(f"{path.name} takes an input of {shape}, where images [B, 3, H, W] are wanted")
    return inputs[0].name, (dims[2], dims[3]), dims[0]


def _output(model: Any, path: Path) -> str:
    """The output that gives logits: the only one, or the first that has two dimensions."""
    if len(model.graph.output) == 1:
        return str(model.graph.output[0].name)
    flat = [each.name for each in model.graph.output if len(each.type.tensor_type.shape.dim) == 2]
    if not flat:
        names = ", ".join(each.name for each in model.graph.output)
        raise BadInputError(f"{path.name} gives {names}, none of which is [B, classes]")
    return str(flat[0])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
