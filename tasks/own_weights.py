"""Tensors of one's own checkpoint: what their shapes tell of the model, and making them fit it as timm does."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

from torch import Tensor, nn

from vitq.tasks.checkpoints import WeightsWarning
from vitq.tasks.names import Build, Configured, ModelEntry, Timm
from vitq.tasks.weights import fits

State = dict[str, Tensor]
_PATCHES = "patch_embed.proj.weight"


def told_by(state: State, model: nn.Module) -> dict[str, int]:
    """`num_classes` and `img_size` as far as the shapes of a checkpoint of this architecture tell them.

    Classes are the rows of the classifier, 0 where the file has none of it; the image's side follows from the number of
    positions, where the model embeds them absolutely and the map of patches is square.
    """
    found = {"num_classes": _classes(state, model), "img_size": _side(state, model)}
    return {key: value for key, value in found.items() if value is not None}


def _classes(state: State, model: nn.Module) -> int | None:
    names: Any = getattr(model, "pretrained_cfg", {}).get("classifier") or "head"
    known = [names] if isinstance(names, str) else list(names)
    known += [name.rpartition(".")[0] for name in known if "." in name]  # Swin's original release has no `head.fc`
    rows = [state[f"{name}.weight"].shape[0] for name in known if f"{name}.weight" in state]
    if rows:
        return int(rows[0])
    return 0 if _PATCHES in state and not any(key.startswith(known[0]) for key in state) else None


def _side(state: State, model: Any) -> int | None:
    positions, patches = state.get("pos_embed"), state.get(_PATCHES)
    mine, embed = getattr(model, "pos_embed", None), getattr(model, "patch_embed", None)
    if positions is None or patches is None or mine is None or positions.ndim != 3 or mine.ndim != 3:
        return None
    beside = mine.shape[1] - math.prod(getattr(embed, "grid_size", None) or (0,))
    grid = math.isqrt(max(0, positions.shape[1] - beside))
    return grid * int(patches.shape[-1]) if grid and grid**2 + beside == positions.shape[1] else None


def adapted(state: State, model: nn.Module, entry: ModelEntry, where: str) -> State:
    """Tensors by timm's names, positions resampled to the model's where the entry names an image size of its own.

    As they are where they fit, and where timm knows no way to make them fit: `weights.put` then says what is wrong.
    Warns (WeightsWarning) of a resampling.
    """
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if isinstance(entry.build, (Build, Configured)) or convert is None or fits(state, model):
        return state
    if not _same_patches(state, model):
        return state
    try:
        made: State = dict(convert(dict(state), model))
    except Exception:  # another model's tensors make timm stumble over whatever it looks for
        return state
    sized = isinstance(entry.build, Timm) and "img_size" in entry.build.args
    resampled = [key for key, tensor in made.items() if key in state and tensor.shape != state[key].shape]
    if not resampled:
        return made
    if not sized:
        return state
    told = f"{resampled[0]} from {tuple(state[resampled[0]].shape)} to {tuple(made[resampled[0]].shape)}"
    size = entry.build.args["img_size"] if isinstance(entry.build, Timm) else 0
    text = f"{where}: positions were resampled by timm for images of {size} pixels: {told}"
    warnings.warn(text, WeightsWarning, stacklevel=3)
    return made


def _same_patches(state: State, model: nn.Module) -> bool:
    """Whether patches have the model's size: timm would resample those of another model too."""
    wanted = dict(model.named_parameters()).get(_PATCHES)
    given = state.get(_PATCHES)
    return wanted is None or given is None or given.ndim != 4 or given.shape == wanted.shape
