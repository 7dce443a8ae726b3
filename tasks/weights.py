"""Reading weights safely and putting them into the model."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vitq.errors import BadInputError
from vitq.tasks.names import ModelEntry
from vitq.tasks.weight_files import file_sha256

_RECOMPUTED = ("relative_position_index", "attn_mask")
"""Buffers that older files hold and timm computes."""


def read(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors or .pth file, never running a pickle's code; BadInputError if unreadable."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInputError(f"weights file {path} cannot be read (truncated, or not tensors only): {reason}") from None
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BadInputError(f"weights file {path} holds no plain dictionary of tensors")
    return content


def tensors_sha256(model: nn.Module) -> str:
    """Hex digest of a model's state: names, shapes and bytes in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _swin_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the original Swin release to timm's: the head, and downsampling at the start of the next stage."""
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "layers" and parts[2:3] == ["downsample"]:
            parts[1] = str(int(parts[1]) + 1)
        elif parts[0] == "head" and parts[1:2] != ["fc"]:
            parts.insert(1, "fc")
        renamed[".".join(parts)] = tensor
    return renamed


def put(state: dict[str, Tensor], model: nn.Module, where: str, name: str) -> None:
    """Load tensors into a model, every one and nothing else; BadInputError names the first that does not fit."""
    wanted = model.state_dict()
    state = {key: tensor for key, tensor in state.items() if not key.endswith(_RECOMPUTED)}
    if "head.fc.weight" in wanted and "head.fc.weight" not in state:
        state = _swin_names(state)
    for key, tensor in wanted.items():
        if key not in state:
            raise BadInputError(f"{where} is not of {name}: tensor {key} is missing; these are another model's weights")
        if state[key].shape != tensor.shape:
            got, want = tuple(state[key].shape), tuple(tensor.shape)
            raise BadInputError(f"{where} is not of {name}: tensor {key} is {got} where {want} is wanted")
        if not torch.isfinite(state[key]).all():
            raise BadInputError(f"{where}: tensor {key} holds values that are not finite; fetch the file again")
    for key in state:
        if key not in wanted:
            raise BadInputError(f"{where} is not of {name}: tensor {key} is not in that model")
    model.load_state_dict({key: state[key].to(wanted[key].dtype) for key in wanted})


def check_sha256(path: Path, entry: ModelEntry) -> str:
    """The file's digest; BadInputError where the entry pins another."""
    found = file_sha256(path)
    if entry.sha256 is not None and found != entry.sha256:
        raise BadInputError(
            f"weights file {path} has sha256 {found[:12]}..., but {entry.name} is pinned to {entry.sha256[:12]}...: "
            "fetch the right file"
        )
    return found
