"""Models of mmdet's and mmsegmentation's configurations, and of ours: built without weights, in eval mode."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitq import mm
from vitq.errors import BadInputError
from vitq.tasks.names import Configured

SCOPES = {"detection": "mmdet", "segmentation": "mmseg"}
"""The registry of mmengine that a task's models are built by."""
TRAINED_BESIDE = ("auxiliary_head",)
"""Parts that serve training alone: no prediction passes them, so that vitq neither builds nor counts nor loads them."""
START = "starts_from"
"""Where one of our configurations names what of the libraries' it changes, which `_base_` of mmengine would look for by
way of a package that new Pythons lack."""


def build(configured: Configured, task: str) -> nn.Module:
    """The model of a configuration with random weights, in eval mode; batch norms are those of one process.

    Raises UnsupportedError where mm is not installed, BadInputError where it has no such configuration.
    """
    register()
    from mmengine.registry import init_default_scope

    init_default_scope(SCOPES[task])
    wanted = torch.get_default_device()
    with (
        torch.device("cpu"),
        _quiet(),
    ):  # mm's constructors read numbers from tensors, which the meta device cannot give
        model: nn.Module = _registry(task).build(config_of(configured)).eval()
    return model.requires_grad_(True).to(wanted)


@contextmanager
def _quiet() -> Iterator[None]:
    """mm's constructors warn of defaults of theirs that a configuration leaves as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def config_of(configured: Configured) -> Any:
    """The configuration's `model` with the entry's changes, naming no weights to fetch, as an mmengine ConfigDict.

    Raises BadInputError where there is no such configuration.
    """
    from mmengine.config import Config

    found = Config.fromfile(str(_file(configured.config)))
    if START in found:
        found, own = Config.fromfile(str(_file(found[START]))), found
        found.merge_from_dict({"model": own.model.to_dict()})
    found.merge_from_dict({"model": copy.deepcopy(configured.changes)})
    model = found.model
    for part in TRAINED_BESIDE:
        model.pop(part, None)
    for part in _parts(model):
        part.pop("init_cfg", None)
        part.pop("pretrained", None)
        if part.get("type") == "SyncBN":
            part["type"] = "BN"
    return model


def _file(config: str) -> Path:
    """Where a configuration lies; BadInputError where it does not."""
    path = path_of(config)
    if not path.is_file():
        raise BadInputError(f"there is no configuration {config}: correct the model's entry")
    return path


def path_of(config: str) -> Path:
    """Where a configuration is to lie: in the package that ships it, or among ours."""
    library, _, name = config.partition("::")
    if library == "vitq":
        return Path(str(resources.files("vitq.tasks"))) / "configs" / name
    spec = find_spec(library)
    home = Path(next(iter(spec.submodule_search_locations or [""]))) if spec else Path()
    return home / ".mim" / "configs" / name


def _parts(node: Any) -> Iterator[Any]:
    """Every mapping in a configuration."""
    if isinstance(node, dict):
        yield node
        for value in list(node.values()):
            yield from _parts(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _parts(value)


def register() -> None:
    """Make both libraries' classes known to their registries; doing it twice changes nothing.

    Raises UnsupportedError where mm is not installed.
    """
    mm.prepare()
    from mmdet.utils import register_all_modules as detectors
    from mmseg.utils import register_all_modules as segmenters

    detectors(init_default_scope=False)
    segmenters(init_default_scope=False)


def _registry(task: str) -> Any:
    if task == "detection":
        from mmdet.registry import MODELS
    else:
        from mmseg.registry import MODELS
    return MODELS
