"""Loading a saved quantized model: the architecture and the method's modules from the header, then every tensor."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vitq.errors import BadInputError, MethodInputError, UnsupportedError
from vitq.options import make_options
from vitq.subject import part_of, put_part

if TYPE_CHECKING:
    import torch
    from torch import nn

SKELETON = "skeleton"
"""The key of a header's architecture that says, in place of an entry, of which class the model was."""
_SLACK = 1_000_000


@dataclass(frozen=True)
class Loaded:
    """A saved model as it computes again: `exec` as in `vitq.methods.base.Quantized`, and the file's whole header."""

    model: nn.Module
    exec: str
    header: dict[str, Any]


def load_quantized(
    path: str | Path, device: str | torch.device = "cpu", architecture: nn.Module | None = None
) -> Loaded:
    """The quantized model that a file holds, in eval mode, on `device`; nothing of the file is executed.

    On the same machine, versions, threads and batch it gives the logits of the model that was saved, bit for bit. With
    other threads or batches the codes of weights are the same, and an image's logits differ by 1e-5 of their norm, as
    sums are taken in another order; where that moves an activation over a rounding boundary, by what one step of that
    activation makes. `architecture` is a module of the FP model, any weights in it, for a file that does not say how it
    is built; it is copied.
    Raises BadInputError, in one line, for a file that is no saved model, is damaged, or is of another version, and for
    a device that is not there.
    """
    from vitq.methods.toolkit import saving

    path, target = Path(path), tried_device(device)
    try:
        header = saving.read_header(path)
        if architecture is None:
            _check_described(path, header)
            _check_size(path, header)
        model = saving.fill(_restored(header, architecture), path)
        return Loaded(model.to(target), str(header["exec"]), header)
    except (MethodInputError, UnsupportedError) as error:
        raise BadInputError(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:  # timm asserts
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadInputError(f"the header of {path} does not describe a model that can be built: {reason}") from error


def tried_device(device: str | torch.device) -> torch.device:
    """The device, tried; BadInputError where nothing can be computed on it."""
    import torch

    try:
        target = torch.device(device)
        torch.zeros(1, device=target).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInputError(f"no model can be loaded to device {str(device)!r}: {reason}") from error
    return target


def _restored(header: dict[str, Any], architecture: nn.Module | None) -> nn.Module:
    """The architecture with the method's modules in the part that was quantized, no weight yet."""
    from vitq.methods import registry
    from vitq.methods.bits import Bits

    method, scope = registry.load(header["method"]), str(header["scope"])
    options = make_options(method.Options, _tuples(header["options"]))
    given = None if architecture is None else copy.deepcopy(architecture).cpu().float().eval()
    model = built(header["architecture"]) if given is None else given
    part = method.restore(part_of(model, scope), Bits.parse(header["bits"]), options, header["facts"])
    return put_part(model, scope, part)


def _check_described(path: Path, header: dict[str, Any]) -> None:
    """BadInputError for a file that does not say how its architecture is built."""
    undescribed = header["architecture"].get(SKELETON)
    if undescribed:
        raise BadInputError(
            f"{path} does not say how its architecture is built: make a {undescribed} and give it, "
            "vitq.load(path, architecture=module)"
        )


def built(known: dict[str, Any]) -> nn.Module:
    """The architecture that a header describes, with random weights; ValueError where it describes none."""
    from vitq.tasks import registry
    from vitq.tasks.names import ModelEntry

    try:
        entry = ModelEntry.model_validate(known["model"])
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"architecture.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return registry.load(known["task"]).build_entry(entry)


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples, which options hold where they are a list of values."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _check_size(path: Path, header: dict[str, Any]) -> None:
    """Refuse an architecture that is far larger than what the file holds, before memory is taken for it."""
    import torch

    from vitq.methods.toolkit.saved_file import read_index

    held = sum(entry.numel for entry in read_index(path).entries)
    with torch.device("meta"):
        needed = sum(parameter.numel() for parameter in built(header["architecture"]).parameters())
    if needed > 2 * held + _SLACK:
        raise BadInputError(
            f"{path} holds {held} numbers, its header describes a model of {needed}: the file is damaged"
        )
