"""Describing a module that a caller has: the entry that builds it anew, held to the module itself.

A saved model holds its architecture as an entry. That of timm's models is read off the module (its configuration, and
its geometry where that is not the configuration's), built on the meta device and compared: names and shapes of every
tensor, and module by module class, numbers and functions. What differs is said, and no entry is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import timm
import torch
from timm.layers.drop import DropPath
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError
from vitq.tasks.names import Build, ModelEntry
from vitq.tasks.own_models import own_entry
from vitq.tasks.registry import load as load_task

Architecture = str | Mapping[str, Any] | ModelEntry
"""How a caller names an architecture: timm's name, {"timm": name, "args": {...}}, or an entry."""
_IDLE = (nn.Dropout, DropPath, nn.Identity)
"""Modules that change nothing in evaluation."""
_NO_MATTER = {"training", "grad_checkpointing", "fused_attn", "p", "drop_prob", "scale_by_keep", "inplace"}
"""Attributes that change no output in evaluation; the fused attention is torch's own form of the same product."""
_SCALARS = (bool, int, float, str, type(None))
_KEEP = Preprocessing((3, 1, 1), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""What stands in an entry until the caller says how images are prepared."""


class Described(NamedTuple):
    """What is known of a module: the entry that builds it, or why there is none, and how its images are prepared."""

    entry: ModelEntry | None
    why: str
    preprocessing: Preprocessing | None


def describe(model: nn.Module, architecture: Architecture | None = None) -> Described:
    """The entry of a module, read off it, or the one that the caller names; held to the module either way.

    BadInputError for an architecture that is named and cannot be had, or is not the module's.
    """
    if architecture is not None:
        entry = named_entry(architecture, classes_of(model))
        wrong = difference(entry, model)
        if wrong:
            raise BadInputError(f"architecture {entry.name} is not that of the model: {wrong}")
        return Described(entry, "", _how(entry))
    why, how = f"{_name(model)} is no model of timm's", None
    for entry in _candidates(model):
        if entry.preprocessing is not _KEEP:
            how = _how(entry)
        wrong = difference(entry, model)
        if wrong is None:
            return Described(entry, "", how)
        why = f"it is not {entry.name} as timm builds it: {wrong}"
    return Described(None, why, how)


def named_entry(architecture: Architecture, num_classes: int | None = None) -> ModelEntry:
    """The entry that a caller names; BadInputError for what names none."""
    if isinstance(architecture, ModelEntry):
        return architecture
    if isinstance(architecture, str):
        return own_entry(architecture, architecture, num_classes=num_classes)
    unknown = set(architecture) - {"timm", "args"}
    if unknown or not isinstance(architecture.get("timm"), str):
        raise BadInputError(f'architecture is {dict(architecture)!r}: give {{"timm": name, "args": {{...}}}}')
    args = {"num_classes": num_classes, **architecture.get("args", {})}
    return own_entry(architecture["timm"], architecture["timm"], args={k: v for k, v in args.items() if v is not None})


def classes_of(model: nn.Module) -> int | None:
    """How many classes a module tells apart, where it says so."""
    count = getattr(model, "num_classes", None)
    return count if isinstance(count, int) and count > 0 else None


def difference(entry: ModelEntry, model: nn.Module) -> str | None:
    """The first thing in which the model that an entry builds is not this module, in words; None where they agree."""
    try:
        with torch.device("meta"):
            built = load_task(entry.task).build_entry(entry)
    except (BadInputError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return _tensors(built, model) or _modules(built, model)


def _tensors(built: nn.Module, model: nn.Module) -> str | None:
    ours, theirs = ({k: tuple(v.shape) for k, v in m.state_dict().items()} for m in (built, model))
    for name in [*theirs, *ours]:
        if name not in ours or name not in theirs:
            return f"tensor {name} is {'missing there' if name in theirs else 'there alone'}"
        if ours[name] != theirs[name]:
            return f"tensor {name} is {list(theirs[name])}, and {list(ours[name])} there"
    return None


def _modules(built: nn.Module, model: nn.Module) -> str | None:
    ours, theirs = dict(built.named_modules()), dict(model.named_modules())
    for path in dict.fromkeys([*theirs, *ours]):
        left, right = ours.get(path), theirs.get(path)
        if left is None or right is None:
            if not isinstance(left or right, _IDLE):
                return f"module {path} is {'missing there' if left is None else 'there alone'}"
        elif not (isinstance(left, _IDLE) and isinstance(right, _IDLE)):
            wrong = _attributes(left, right)
            if wrong:
                return f"{path or 'the model'}: {wrong}"
    return None


def _attributes(built: nn.Module, model: nn.Module) -> str | None:
    if type(built) is not type(model):
        return f"it is a {_name(model)}, and a {_name(built)} there"
    ours, theirs = dict(_decisive(built)), dict(_decisive(model))
    for name in [*theirs, *ours]:
        if ours.get(name) != theirs.get(name):
            return f"{name} is {theirs.get(name)!r}, and {ours.get(name)!r} there"
    return None


def _decisive(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes that may decide an output: numbers, words, tuples of them, and functions by name."""
    for name, value in vars(module).items():
        if name.startswith("_") or name in _NO_MATTER:
            continue
        plain = value if isinstance(value, (tuple, list)) else (value,)
        if all(isinstance(each, _SCALARS) for each in plain):
            yield name, tuple(value) if isinstance(value, list) else value
        elif isinstance(value, Callable) and hasattr(value, "__qualname__"):  # type: ignore[arg-type]
            yield name, f"{value.__module__}.{value.__qualname__}"


def _candidates(model: nn.Module) -> Iterator[ModelEntry]:
    """Entries that may build a module of timm's, the likest first."""
    config = getattr(model, "pretrained_cfg", None) or {}
    architecture = config.get("architecture")
    geometry = _geometry(model)
    if isinstance(architecture, str) and timm.is_model(architecture):
        tag = config.get("tag")
        name = f"{architecture}.{tag}" if tag and _has_tag(architecture, tag) else architecture
        size = geometry.get("img_size")
        yield own_entry(architecture, name, num_classes=classes_of(model), img_size=size)
        changed = _changed(name, geometry)
        if changed:
            yield own_entry(architecture, name, args={"num_classes": classes_of(model), **changed})
    elif type(model) in (VisionTransformer, SwinTransformer):
        build = Build.model_validate({"class": type(model).__name__, "args": geometry})
        yield ModelEntry(name=type(model).__name__, preprocessing=_KEEP, build=build, hub=False)


def _has_tag(architecture: str, tag: str) -> bool:
    return f"{architecture}.{tag}" in timm.list_pretrained(f"{architecture}.*")


def _changed(name: str, geometry: Mapping[str, Any]) -> dict[str, Any]:
    """What of a geometry is not the architecture's own."""
    with torch.device("meta"):
        own = _geometry(timm.create_model(name, pretrained=False))
    return {key: value for key, value in geometry.items() if key != "num_classes" and own.get(key) != value}


def _geometry(model: nn.Module) -> dict[str, Any]:
    """Arguments of timm's two classes that a module of theirs was made with, as far as they show; else nothing."""
    try:
        if isinstance(model, VisionTransformer):
            return _vit(model)
        return _swin(model) if isinstance(model, SwinTransformer) else {}
    except (AttributeError, IndexError, TypeError):  # a class that only derives from timm's
        return {}


def _common(model: Any) -> dict[str, Any]:
    embed = model.patch_embed
    size = embed.img_size[0] if embed.img_size else None
    return {
        **({"img_size": size} if size else {}),
        "patch_size": embed.patch_size[0],
        "in_chans": embed.proj.in_channels,
        "num_classes": model.num_classes,
        "global_pool": model.global_pool if isinstance(model, VisionTransformer) else model.head.global_pool.pool_type,
        "embed_dim": model.embed_dim,
    }


def _vit(model: VisionTransformer) -> dict[str, Any]:
    first: Any = model.blocks[0]
    return {
        **_common(model),
        "depth": len(model.blocks),
        "num_heads": first.attn.num_heads,
        "mlp_ratio": first.mlp.fc1.out_features / model.embed_dim,
        "qkv_bias": first.attn.qkv.bias is not None,
        "qk_norm": not isinstance(first.attn.q_norm, nn.Identity),
        "init_values": getattr(first.ls1, "init_values", 1.0) if hasattr(first.ls1, "gamma") else None,
        "class_token": model.cls_token is not None,
        "reg_tokens": model.num_reg_tokens,
        "no_embed_class": model.no_embed_class,
        "pre_norm": not isinstance(model.norm_pre, nn.Identity),
        "fc_norm": not isinstance(model.fc_norm, nn.Identity),
        "dynamic_img_size": model.dynamic_img_size,
    }


def _swin(model: SwinTransformer) -> dict[str, Any]:
    blocks: list[Any] = [stage.blocks[0] for stage in model.layers]  # type: ignore[index]
    first = blocks[0]
    return {
        **_common(model),
        "depths": tuple(len(stage.blocks) for stage in model.layers),  # type: ignore[arg-type]
        "num_heads": tuple(block.attn.num_heads for block in blocks),
        "window_size": first.target_window_size[0] if hasattr(first, "target_window_size") else first.window_size[0],
        "mlp_ratio": first.mlp.fc1.out_features / model.embed_dim,
        "qkv_bias": first.attn.qkv.bias is not None,
    }


def _how(entry: ModelEntry) -> Preprocessing | None:
    how = entry.preprocessing
    return how if isinstance(how, Preprocessing) and how is not _KEEP else None


def _name(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"
