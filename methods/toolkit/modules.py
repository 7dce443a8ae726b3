"""Changing and walking a model's modules: replacing them by path, and every quantizer at once."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from vitq.errors import MethodInputError
from vitq.methods.toolkit.calibration import saw_nothing
from vitq.methods.toolkit.observers import NothingShownError
from vitq.methods.toolkit.quantizers import Mode, Quantizer


def replace_modules(model: nn.Module, swap: Callable[[str, nn.Module], nn.Module | None]) -> nn.Module:
    """Replace every module for which `swap(path, module)` gives another one, in place; returns the model."""
    for path, module in list(model.named_modules()):
        new = swap(path, module) if path else None
        if new is not None:
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, new)
    return model


def named_quantizers(model: nn.Module) -> dict[str, Quantizer]:
    """Every quantizer of the model by its path, in module order.

    Paths end in `weight_quantizer` and `input_quantizer` of a layer, or `left` and `right` of a product.
    """
    return {path: module for path, module in model.named_modules() if isinstance(module, Quantizer)}


def set_mode(model: nn.Module, mode: Mode) -> nn.Module:
    """Set the mode of every quantizer in the model; returns the model."""
    for quantizer in named_quantizers(model).values():
        quantizer.mode = mode
    return model


def fit_all(model: nn.Module) -> None:
    """Fix the grid of every quantizer from what it observed; MethodInputError names the tensor that has none."""
    for path, quantizer in named_quantizers(model).items():
        try:
            quantizer.fit()
        except MethodInputError as error:
            raise MethodInputError(f"{path}: {error}") from error
        except NothingShownError as error:
            raise saw_nothing(path) from error
