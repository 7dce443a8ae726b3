"""mmdet's and mmsegmentation's classes, found where one of the two is in use: a model brings its module along.

Both have the same backbones under the same names, so that one explicit form serves both. Nothing is imported here: a
model can only be of a class whose module is loaded.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from torch import nn


def loaded(*modules: str) -> tuple[ModuleType, ...]:
    """Those of these modules that have been imported."""
    return tuple(sys.modules[name] for name in modules if name in sys.modules)


_MADE: dict[tuple[type, type], type[nn.Module]] = {}


def explicit_form(form: type, served: type[nn.Module]) -> type[nn.Module]:
    """The class that computes as `form` says what a library's class holds; the same one for the same two classes."""
    if (form, served) not in _MADE:
        members = {"__module__": served.__module__, "__doc__": form.__doc__}
        _MADE[form, served] = type(f"Explicit{served.__name__}", (form, served), members)
    return _MADE[form, served]


def classes(modules: tuple[ModuleType, ...], name: str) -> tuple[type[nn.Module], ...]:
    """The class of a name in each of these modules."""
    return tuple(getattr(module, name) for module in modules)


def plain_layers() -> dict[type[nn.Module], type[nn.Module]]:
    """mmcv's layers, which differ from torch's for empty input on torch 1.4 alone, to torch's own."""
    names = ("Linear", "Conv2d", "ConvTranspose2d")
    found = loaded("mmcv.cnn.bricks.wrappers")
    return {served: getattr(nn, name) for name in names for served in classes(found, name)}


def feed_forward(ffn: Any, x: Any) -> Any:
    """mmcv's FFN without its residual sum: linear layers, activation, dropouts, and LayerScale where there is one."""
    return ffn.dropout_layer(ffn.gamma2(ffn.layers(x)))
