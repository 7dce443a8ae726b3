"""TorchScript and torch.export files, and state dicts of torchao, as models that torch runs on the CPU.

TorchScript is run by its own interpreter. Its source is read before: operators that are no part of torch (a library's),
and those that open files, are refused. What torch.export wrote is read by torch with pickle and by evaluating
expressions, which may run code of the file; only a user who trusts it has it read.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitq.benchmarks.foreign.model import Facts, ForeignModel, Run
from vitq.benchmarks.foreign.torch_counts import counted_program, counted_state
from vitq.digests import file_sha256
from vitq.errors import BadInputError
from vitq.words import short

NAMESPACES = ("aten", "prim", "prims", "quantized")
"""Namespaces of operators that torch has without a library of others."""
REACHING_OUT = ("from_file", "save", "load", "from_buffer")
"""Functions of torch that read or write files or memory; the words are refused wherever they stand."""
_MOST_SOURCE = 50_000_000


def torchscript(path: Path) -> ForeignModel:
    """A TorchScript file in eval mode; BadInputError where it cannot be read or names an operator that is refused."""
    _check_source(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch.jit is deprecated
            load: Any = torch.jit.load
            module = load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError, AttributeError) as error:
        raise BadInputError(f"{path.name} cannot be read as TorchScript: {_last_line(error)}") from None
    facts = _facts(path, "torchscript", f"torch.jit ({_producer(path)})")
    quantized = _names(path, r"ops\.quantized\.")
    return ForeignModel(_calling(module), counted_program(module, facts, quantized=quantized))


def exported(path: Path, trust: bool) -> ForeignModel:
    """What torch.export wrote; BadInputError until it is trusted, and where it cannot be read."""
    if not trust:
        raise BadInputError(
            f"{path.name} was written by torch.export, which torch reads with pickle and so may run code of the file: "
            "export it as ONNX, or run with --trust if you made it"
        )
    try:
        program = torch.export.load(str(path))
        module = program.module()
    except Exception as error:  # whatever its many readers raise
        raise BadInputError(f"{path.name} cannot be read by torch.export: {_last_line(error)}") from None
    facts = _facts(path, "torch.export", "torch.export")
    batch, sides = _exported_input(program, path)
    names = {str(node.target).partition(".")[0] for node in program.graph.nodes if node.op == "call_function"}
    facts = replace(facts, batch=batch, sides=sides, made_by=f"torch.export{_through(names)}")
    quantized = any(name.startswith(("quantized", "torchao")) for name in names)
    return ForeignModel(_calling(module), counted_program(module, facts, quantized=quantized))


def state_dict(path: Path, like: str | None) -> ForeignModel:
    """A state dict, of torchao or plain, in the architecture that it is `like`; BadInputError where it does not fit."""
    if like is None:
        raise BadInputError(f"{path.name} holds tensors alone: name the architecture they are of (--like TIMM_MODEL)")
    state = _read_state(path)
    model = _built(like, state, path)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise BadInputError(f"{path.name} is not of {like}: {_second_line(error)}") from None
    facts = _facts(path, "state-dict", _maker(state))
    return ForeignModel(_calling(model), counted_state(model, facts, lambda: _built(like, state, path)))


def _calling(module: Any) -> Run:
    """The module as a function: what holds it must not switch it to another mode, which exported ones refuse."""
    return lambda images: module(images)


def _built(like: str, state: dict[str, Tensor], path: Path) -> nn.Module:
    """timm's architecture with as many classes as the state's classifier has."""
    import timm

    try:
        with torch.device("meta"):
            usual = timm.create_model(like)
    except RuntimeError:
        raise BadInputError(f"timm has no model {like!r}, of which {path.name} would be: name one of its own") from None
    config: Any = usual.default_cfg
    weight = state.get(f"{config.get('classifier')}.weight")
    classes: dict[str, Any] = {} if weight is None else {"num_classes": weight.shape[0]}
    return timm.create_model(like, **classes).eval()


def _read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name; torchao's kinds of tensor are known to torch's restricted unpickler once it is imported."""
    with suppress(ImportError):
        import torchao  # noqa: F401
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle.UnpicklingError and what damaged files raise
        reason = _refused_global(error) or _last_line(error)
        raise BadInputError(
            f"{path.name} is a pickle that holds more than tensors ({reason}), and code of a file is not run: save its "
            "state dict, or export it as ONNX"
        ) from None
    held = held.get("state_dict", held.get("model", held)) if isinstance(held, dict) else held
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise BadInputError(f"{path.name} is no state dict: save the model's state_dict()")
    return held


def _refused_global(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return found.group(1) if found else ""


def _maker(state: dict[str, Tensor]) -> str:
    """torchao where a tensor is of one of its kinds, with the version that reads it here."""
    kinds = sorted({type(t).__name__ for t in state.values() if type(t).__module__.startswith("torchao")})
    if not kinds:
        return "torch (a state dict)"
    import importlib.metadata

    return f"torchao ({', '.join(kinds)}; read by {importlib.metadata.version('torchao')})"


def _check_source(path: Path) -> None:
    """BadInputError for an operator that is no part of torch, or for a word that may open files, wherever it stands."""
    for source in _sources(path):
        for found in re.finditer(r"\bops\b", source):
            if not re.match(rf"\.({'|'.join(NAMESPACES)})\.", source[found.end() : found.end() + 20]):
                what = source[found.start() : found.start() + 30].split("(")[0].strip()
                raise BadInputError(f"{path.name} has the operator {short(what)}, which torch has only with a library")
        for word in REACHING_OUT:
            if re.search(rf"\b{word}\b", source):
                raise BadInputError(f"{path.name} names {word}, which may open files: it is not run")


def _sources(path: Path) -> list[str]:
    """The TorchScript source of a file; BadInputError where it is no whole archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry for entry in archive.infolist() if entry.filename.endswith(".py")]
            if sum(entry.file_size for entry in names) > _MOST_SOURCE:
                raise BadInputError(f"{path.name} has more source than any model: it is not read")
            return [archive.read(entry).decode("utf-8", "replace") for entry in names]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise BadInputError(f"{path.name} cannot be read: {_last_line(error)}") from None


def _names(path: Path, pattern: str) -> bool:
    return any(re.search(pattern, source) for source in _sources(path))


def _producer(path: Path) -> str:
    """The version of the file's format: TorchScript does not say which torch wrote it."""
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/version")), None)
        return f"format {archive.read(name).decode('ascii', 'replace').strip()[:20]}" if name else "format unknown"


def _exported_input(program: Any, path: Path) -> tuple[int | None, tuple[int | None, int | None]]:
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    shape = list(getattr(inputs[0].meta.get("val"), "shape", ())) if len(inputs) == 1 else []
    dims = [dim if isinstance(dim, int) else None for dim in shape]
    if len(dims) != 4 or dims[1] != 3:
        raise BadInputError(f"{path.name} takes no images [B, 3, H, W] alone: export it so")
    return dims[0], (dims[2], dims[3])


def _through(spaces: set[str]) -> str:
    return " after torchao" if "torchao" in spaces else ""


def _facts(path: Path, format: str, made_by: str) -> Facts:
    return Facts(
        path=path, format=format, made_by=made_by, bytes=path.stat().st_size, sha256=file_sha256(path),
        runtime="torch", version=torch.__version__,
    )  # fmt: skip


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


def _second_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[1:] or lines or [type(error).__name__])[0][:160]
