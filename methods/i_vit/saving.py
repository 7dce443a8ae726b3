"""A trained model on disk: weights and ranges, and the options they belong to, so that reloading changes no logit."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from vitq.methods.base import MethodInputError
from vitq.methods.i_vit.network import Network


def save(model: Network, size: tuple[int, int, int], options: dict[str, object], path: Path) -> Path:
    """Write the trainable form: every parameter and every range, with options and image size as metadata."""
    state = {name: tensor.detach().contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(state, path, {"method": "i_vit", "size": json.dumps(size), "options": json.dumps(options)})
    return path


def read_metadata(path: Path) -> tuple[tuple[int, int, int], dict[str, object]]:
    """Image size and options of a saved model; MethodInputError for a file that is none."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise MethodInputError(f"{path} cannot be read as a saved I-ViT model: {error}") from error
    if metadata.get("method") != "i_vit":
        raise MethodInputError(f"{path} was not saved by i_vit: give the model.safetensors of one of its records")
    channels, height, width = json.loads(metadata["size"])
    return (channels, height, width), json.loads(metadata["options"])


def fill(model: nn.Module, path: Path) -> None:
    """Load parameters and ranges; MethodInputError where they belong to another architecture."""
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        first = lines[1].strip() if len(lines) > 1 else lines[0]
        raise MethodInputError(f"{path} belongs to another architecture than the model given: {first}") from error
