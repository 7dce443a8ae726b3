"""Putting weights into the model: every tensor of the right name, shape and kind, and nothing else."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter

import torch
from torch import Tensor, nn

from vitq.errors import BadInputError
from vitq.tasks.checkpoints import WeightsWarning, read

__all__ = ["RECOMPUTED", "WeightsWarning", "put", "read", "tensors_sha256"]

RECOMPUTED = ("relative_position_index", "attn_mask")
"""Buffers that older files hold and timm computes."""
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def tensors_sha256(model: nn.Module) -> str:
    """Hex digest of a model's state: names, shapes and bytes in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def put(state: dict[str, Tensor], model: nn.Module, where: str, name: str) -> None:
    """Load tensors into a model, every one and nothing else; BadInputError names those that do not fit, in one line.

    Warns (WeightsWarning) where values were stored in another floating-point format than the model's.
    """
    wanted = {key: tensor for key, tensor in model.state_dict().items() if not key.endswith(RECOMPUTED)}
    state = {key: tensor for key, tensor in state.items() if not key.endswith(RECOMPUTED)}
    if "head.fc.weight" in wanted and "head.fc.weight" not in state:
        state = _swin_names(state, where)
    wrong = _misfits(state, wanted)
    if wrong:
        raise BadInputError(f"{where} is not of {name}: {'; '.join(wrong)}; these are another model's weights")
    # every name was compared above; what is recomputed is not loaded
    model.load_state_dict({key: _fitted(key, state[key], wanted[key].dtype, where) for key in wanted}, strict=False)
    _say_formats([state[key].dtype for key in wanted if wanted[key].is_floating_point()], where)


def fits(state: dict[str, Tensor], model: nn.Module) -> bool:
    """Whether `put` would take these tensors, by their names and shapes."""
    wanted = {key: tensor for key, tensor in model.state_dict().items() if not key.endswith(RECOMPUTED)}
    return not _misfits({key: tensor for key, tensor in state.items() if not key.endswith(RECOMPUTED)}, wanted)


def _misfits(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """What is missing, of another shape, or unexpected: a few words each, the first names of many."""
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    shapes = {key: (tuple(state[key].shape), tuple(tensor.shape)) for key, tensor in wanted.items() if key in state}
    others = [f"{key} is {got} where {want} is wanted" for key, (got, want) in shapes.items() if got != want]
    told = [_listed(others, "of another shape", "")] if others else []
    told += [_listed(missing, "missing", " is missing")] if missing else []
    return told + ([_listed(unexpected, "not in that model", " is not in that model")] if unexpected else [])


def _listed(names: list[str], many: str, one: str) -> str:
    if len(names) == 1:
        return f"tensor {names[0]}{one}"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} tensors are {many} ({', '.join(names[:3])}{more})"


def _fitted(key: str, tensor: Tensor, wanted: torch.dtype, where: str) -> Tensor:
    """The tensor in the model's format; BadInputError where values are no numbers of that kind or do not fit."""
    of_kind = _FLOATS if wanted in _FLOATS else (wanted,)
    if tensor.dtype not in of_kind:
        kinds = " or ".join(str(kind).removeprefix("torch.") for kind in of_kind)
        raise BadInputError(f"{where}: tensor {key} is {str(tensor.dtype).removeprefix('torch.')}; save it as {kinds}")
    if not torch.isfinite(tensor).all():
        raise BadInputError(f"{where}: tensor {key} holds values that are not finite; fetch the file again")
    fitted = tensor.to(wanted)
    if not torch.isfinite(fitted).all():
        raise BadInputError(f"{where}: tensor {key} holds values too large for {str(wanted).removeprefix('torch.')}")
    return fitted


def _say_formats(formats: list[torch.dtype], where: str) -> None:
    for kind, count in Counter(kind for kind in formats if kind != torch.float32).items():
        word, how = str(kind).removeprefix("torch."), "rounded" if kind == torch.float64 else "widened"
        text = f"{where}: {count} of {len(formats)} tensors are {word} and were {how} to float32"
        warnings.warn(text, WeightsWarning, stacklevel=4)


def _swin_names(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Names of the original Swin release to timm's: the head, and downsampling at the start of the next stage."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "layers" and parts[2:3] == ["downsample"] and parts[1].isdecimal():
            parts[1] = str(int(parts[1]) + 1)
        elif parts[0] == "head" and parts[1:2] != ["fc"]:
            parts.insert(1, "fc")
        new = ".".join(parts)
        if new in renamed:
            raise BadInputError(
                f"{where}: two tensors are called {new} by timm's names; save the model's state dict anew"
            )
        renamed[new] = tensor
    return renamed
