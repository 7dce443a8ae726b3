"""The format of a saved model: an index of what lies where in a few flat tensors; what is read is checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitq.errors import MethodInputError
from vitq.methods.toolkit import bit_packing
from vitq.methods.toolkit.stored import Codes

FORMAT = "vitq quantized model"
VERSION = 1
CODES = "codes"
"""Name of the flat tensor of packed codes; other flat tensors are named as their types."""
TYPES = {
    str(t).removeprefix("torch."): t
    for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
              torch.int8, torch.uint8, torch.bool)
}  # fmt: skip
Payload = dict[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """One stored tensor: path of its module, name there, `kind` (a type, or u4/s4: codes of 4 bits, signed or not)."""

    path: str
    name: str
    kind: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, path: str, name: str, value: Tensor | Codes) -> Entry:
        """The entry of what a module stores; MethodInputError for a type that is not kept."""
        if isinstance(value, Codes):
            bit_packing.code_range(value.bits, value.signed)
            return cls(path, name, f"{'s' if value.signed else 'u'}{value.bits}", tuple(value.codes.shape))
        kind = str(value.dtype).removeprefix("torch.")
        if kind not in TYPES or value.layout != torch.strided:
            raise MethodInputError(f"{path}.{name} is {value.dtype} in layout {value.layout}, which a file cannot hold")
        return cls(path, name, kind, tuple(value.shape))

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bits(self) -> int | None:
        """Width of codes, None for a tensor kept as it is."""
        return None if self.kind in TYPES else int(self.kind[1:])

    @property
    def where(self) -> str:
        """Name of the flat tensor that holds it."""
        return self.kind if self.bits is None else CODES

    @property
    def length(self) -> int:
        """Elements it takes there: bytes of packed codes."""
        return self.numel if self.bits is None else bit_packing.packed_bytes(self.numel, self.bits)

    def words(self) -> str:
        """Kind and shape for a message."""
        return f"{self.kind}{list(self.shape)}"

    def read(self, flat: Tensor) -> Tensor:
        """The tensor from its piece of the flat one, with memory of its own; codes as int32."""
        if self.bits is None:
            return flat.clone().reshape(self.shape)
        return bit_packing.unpack(flat, self.numel, self.bits, self.kind[0] == "s").reshape(self.shape)


def write_index(entries: list[Entry]) -> list[list[Any]]:
    """The index as JSON: [path, [name, kind, shape], ...] for each module, in the order of the model."""
    rows: list[list[Any]] = []
    for entry in entries:
        if not rows or rows[-1][0] != entry.path:
            rows.append([entry.path])
        rows[-1].append([entry.name, entry.kind, list(entry.shape)])
    return rows


def parse_index(rows: Any) -> list[Entry]:
    """The entries; ValueError or TypeError for anything that `write_index` does not write."""
    entries = [Entry(path, name, kind, tuple(shape)) for path, *tensors in rows for name, kind, shape in tensors]
    for entry in entries:
        _check_entry(entry)
    if len({(e.path, e.name) for e in entries}) != len(entries):
        raise ValueError("a tensor is listed twice")
    return entries


def _check_entry(entry: Entry) -> None:
    words = (entry.path, entry.name, entry.kind)
    sizes = len(entry.shape) <= 16 and all(type(n) is int and 0 <= n < 1 << 40 for n in entry.shape)
    if not (sizes and all(type(word) is str for word in words)):
        raise ValueError("an entry is no path, name, kind and shape")
    if entry.kind not in TYPES:
        if entry.kind[:1] not in ("u", "s"):
            raise ValueError(f"{entry.kind[:20]!r} is no kind of tensor")
        bit_packing.code_range(int(entry.kind[1:4]), entry.kind[0] == "s")


def flatten(stored: Iterable[tuple[str, str, Tensor | Codes]]) -> tuple[list[Entry], Payload]:
    """Index and flat tensors of what a model stores; MethodInputError for codes outside their width."""
    entries: list[Entry] = []
    parts: dict[str, list[Tensor]] = {}
    for path, name, value in stored:
        entry = Entry.of(path, name, value)
        entries.append(entry)
        try:
            flat = bit_packing.pack(*value) if isinstance(value, Codes) else value.detach().reshape(-1).cpu()
        except MethodInputError as error:
            raise MethodInputError(f"{path}.{name}: {error}") from error
        parts.setdefault(entry.where, []).append(flat)
    return entries, {where: torch.cat(flats) for where, flats in sorted(parts.items())}


def digest(header: dict[str, Any], index: list[list[Any]], payload: Payload) -> str:
    """sha256 of the header, the index and every byte of the payload."""
    found = hashlib.sha256(json.dumps([header, index], sort_keys=True, separators=(",", ":")).encode())
    for where in sorted(payload):
        found.update(payload[where].view(torch.uint8).numpy().data)
    return found.hexdigest()


@dataclass(frozen=True)
class Index:
    """A file's header and entries, read and checked against its sizes; the payload comes when asked for."""

    path: Path
    header: dict[str, Any]
    entries: list[Entry]
    sha256: str

    def states(self) -> dict[str, dict[str, tuple[Entry, Tensor]]]:
        """Every module's tensors by path and name; MethodInputError where the payload is not what was written."""
        payload = _payload(self.path)
        if digest(self.header, write_index(self.entries), payload) != self.sha256:
            raise MethodInputError(f"{self.path} is damaged: its content is not what was saved; save the model again")
        states: dict[str, dict[str, tuple[Entry, Tensor]]] = {}
        ends = dict.fromkeys(payload, 0)
        for entry in self.entries:
            start = ends[entry.where]
            ends[entry.where] += entry.length
            piece = payload[entry.where][start : start + entry.length]
            states.setdefault(entry.path, {})[entry.name] = entry, entry.read(piece)
        return states


def _payload(path: Path) -> Payload:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def is_saved(path: Path) -> bool:
    """Whether a file says of itself that it is a saved quantized model; it may be damaged all the same."""
    try:
        _metadata(path)
    except MethodInputError:
        return False
    return True


def read_index(path: Path) -> Index:
    """Header and index of a saved model; MethodInputError, in one line, for any other file."""
    text, held = _metadata(path)
    try:
        about = json.loads(text)
        header, rows, sha256 = about["header"], about["tensors"], about["sha256"]
        named = (header["format"], header["version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MethodInputError(f"the header of {path} is not a saved model's: {error}") from error
    if named[0] != FORMAT:
        raise MethodInputError(f"{path} is no {FORMAT}: its header says {str(named[0])[:60]!r}")
    if named[1] != VERSION:
        raise MethodInputError(f"{path} has version {str(named[1])[:20]} of the format, this vitq reads {VERSION}: "
                               "save the model again")  # fmt: skip
    try:
        entries = parse_index(rows)
    except (ValueError, TypeError) as error:
        raise MethodInputError(f"the header of {path} lists no tensors: {error}") from error
    _check_sizes(path, entries, held)
    return Index(path, header, entries, str(sha256))


def _metadata(path: Path) -> tuple[str, dict[str, tuple[str, list[int]]]]:
    """Our text in a safetensors file, and its tensors' types and shapes."""
    if not path.is_file():
        raise MethodInputError(f"{path} is no file: give a saved model")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            names = list(file.keys())
            held = {n: (file.get_slice(n).get_dtype(), file.get_slice(n).get_shape()) for n in names}
    except (OSError, SafetensorError) as error:
        raise MethodInputError(f"{path} cannot be read as safetensors: {str(error).splitlines()[0]}") from error
    if "vitq" not in about:
        raise MethodInputError(f"{path} is no {FORMAT}: it has no header of vitq's")
    return about["vitq"], held


_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
          "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", CODES: "U8"}  # fmt: skip


def _check_sizes(path: Path, entries: list[Entry], held: dict[str, tuple[str, list[int]]]) -> None:
    wanted: dict[str, int] = {}
    for entry in entries:
        wanted[entry.where] = wanted.get(entry.where, 0) + entry.length
    if {name: (_NAMES[name], [length]) for name, length in wanted.items()} != held:
        raise MethodInputError(f"{path} is damaged: the tensors in its header are not those that it holds")
