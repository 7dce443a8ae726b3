"""A quantized model as an ONNX file for a runtime: written, loaded again, and held to the model before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from torch import Tensor, nn

from vitq import __version__
from vitq.benchmarks.measure.forms import Form, checked
from vitq.benchmarks.runtimes.registry import load
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.errors import BadInputError, UnsupportedError
from vitq.words import nearest

PREPROCESSING = "vitq.preprocessing"
"""The entry of an ONNX file's metadata that says how images become its input."""
BITS = "vitq.bits"
"""The entry that says which widths were asked for: types are as wide as runtimes have kernels for, 8 bits for 5."""
RUNTIMES = ("onnxruntime", "openvino")
"""Runtimes that a file may be written for: they differ in where a product's zero points stand, not in what it gives."""


@dataclass(frozen=True)
class Export:
    """A file that was written and checked: how the runtime computes it, and how near to the model."""

    path: Path
    bytes: int
    shape: tuple[int, ...]
    form: Form


def refuse(out: Path, runtime: str, *, overwrite: bool = False) -> None:
    """BadInputError for what can be refused before anything is loaded."""
    if runtime not in RUNTIMES:
        raise BadInputError(f"runtime is {runtime!r}; {nearest(runtime, RUNTIMES)}")
    if out.exists() and not (overwrite and out.is_file()):
        raise BadInputError(f"{out} is there already: remove it, or give another name")
    if not out.parent.is_dir():
        raise BadInputError(f"{out.parent} is no folder")
    for name in ("onnxruntime", runtime):  # onnxruntime's also says whether onnx is there
        missing = load(name).missing()
        if missing:
            raise BadInputError(missing)


def write(
    model: nn.Module,
    exec: str,
    example: Tensor,
    out: Path,
    runtime: str,
    threads: int = 1,
    how: Preprocessing | ScenePreprocessing | None = None,
    bits: str = "",
) -> Export:
    """Write a model for images of the example's shape and load what was written; the file is whole or not there.

    `how` images become its input, and the widths of weights and activations (`bits`, as W4A4), are kept in the file's
    metadata, where evaluating the file finds them.

    UnsupportedError where the model has no such form or the runtime's numbers are not the model's, BadInputError where
    the file cannot be written.
    """
    from vitq.benchmarks.runtimes.onnx_export.export import to_onnx, unsupported

    reason = unsupported(model, exec)
    if reason:
        raise UnsupportedError(reason)
    part = out.with_name(f"{out.name}.part")
    try:
        written = to_onnx(model, example, zeros_apart=runtime == "openvino")
        written.producer_version = __version__
        if how is not None:
            written.metadata_props.add(key=PREPROCESSING, value=TypeAdapter(type(how)).dump_json(how).decode())
        if bits:
            written.metadata_props.add(key=BITS, value=bits)
        part.write_bytes(written.SerializeToString())
        compiled = load(runtime).read(part, quantized=exec != "fp32", threads=threads)  # type: ignore[attr-defined]
        form, size = checked(model, exec, compiled, example), part.stat().st_size
        part.replace(out)
    except OSError as error:
        raise BadInputError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return Export(out, size, tuple(example.shape), form)
