"""Opening a model that others quantized: what kind of file it is, and how images become its input."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from vitq.benchmarks.foreign.inputs import Wanted
from vitq.benchmarks.foreign.model import ForeignModel
from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError

KNOWN = "an ONNX (.onnx), OpenVINO (.xml), TorchScript or torch.export (.pt, .pt2) file, or a state dict of torchao"


@dataclass(frozen=True)
class Opened:
    """A foreign model that takes images, and how these are made."""

    model: ForeignModel
    preprocessing: Preprocessing


def open_foreign(
    path: Path, wanted: Wanted | None = None, *, threads: int | None = None, trust: bool = False
) -> Opened:
    """The model of a file, run once on zeros; `wanted` is what the user says of its input (see `inputs`).

    BadInputError, in one line, for a file of no known kind, one that is refused, and one that does not map images
    [B, 3, H, W] to logits [B, classes].
    """
    wanted, cores = wanted or Wanted(), threads or _cores()
    model = _opened(Path(path), wanted, cores, trust)
    facts = model.facts
    how = wanted.preprocessing(facts.path.name, facts.written, facts.sides)
    model.probe(how.size)
    if facts.runtime == "torch":
        from vitq.benchmarks.foreign.torch_counts import with_operations

        model.facts = with_operations(model.run, model.facts, how.size)
    return Opened(model.eval(), how)


def kind_of(path: Path) -> str:
    """onnx, openvino, torchscript, torch.export, pickle or safetensors; BadInputError for all else."""
    if not path.is_file():
        what = "is not there" if not path.exists() else "is a folder" if path.is_dir() else "is no regular file"
        raise BadInputError(f"{path} {what}: give {KNOWN}")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from None
    if not head:
        raise BadInputError(f"{path} is empty")
    if head.startswith(b"PK"):
        return _kind_of_archive(path)
    if head[:1] == b"\x80":
        return "pickle"
    if head[8:9] == b"{":
        return "safetensors"
    if path.suffix.lower() == ".xml" or head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<?xml"):
        return "openvino"
    if path.suffix.lower() == ".onnx":
        return "onnx"
    raise BadInputError(f"{path} is no model that is known here: give {KNOWN}")


def _kind_of_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from None
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or any(name.endswith("serialized_exported_program.json") for name in names):
        return "torch.export"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "torchscript"
    if "data.pkl" in inner:
        return "pickle"
    raise BadInputError(f"{path} is a zip file, but no model that is known here: give {KNOWN}")


def _opened(path: Path, wanted: Wanted, threads: int, trust: bool) -> ForeignModel:
    """The model, its runtime imported only now."""
    kind = kind_of(path)
    if kind == "onnx":
        from vitq.benchmarks.foreign.onnx_files import open_onnx

        return open_onnx(path, threads)
    if kind == "openvino":
        from vitq.benchmarks.foreign.openvino_files import open_openvino

        return open_openvino(path, threads)
    if kind == "safetensors":
        raise BadInputError(
            f"{path.name} holds tensors alone: a model that vitq saved is read by vitq.load, weights of your own by "
            "--model with the architecture"
        )
    from vitq.benchmarks.foreign import torch_files

    if kind == "torchscript":
        return torch_files.torchscript(path)
    if kind == "torch.export":
        return torch_files.exported(path, trust)
    return torch_files.state_dict(path, wanted.like)


def _cores() -> int:
    from vitq.datasets.reading_ahead import default_workers

    return default_workers()
