"""Layers beside the transformer that no calibration image reaches, as a detector's heads where nothing is proposed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

from vitq.errors import MethodInputError
from vitq.methods.architectures.roles import Roles
from vitq.methods.toolkit.calibration import saw_nothing
from vitq.methods.toolkit.modules import named_quantizers
from vitq.methods.toolkit.observers import NothingShownError


def within(path: str, roles: Roles) -> bool:
    """Whether a path is of the transformer itself, all of which every image passes."""
    if not roles.whole:
        return roles.whole == "" or any(path.startswith(f"{block.path}.") for block in roles.blocks)
    return path.startswith(f"{roles.whole}.")


def leave_out(part: nn.Module, paths: Sequence[str]) -> None:
    """Take the quantizers of these paths out: what they would quantize stays in floating point."""
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(part.get_submodule(parent), name, None)


def fit_reached(part: nn.Module, roles: Roles) -> list[str]:
    """Fix the grid of every quantizer from what it observed; returns those that saw nothing, which are taken out.

    MethodInputError names one within the transformer, and one whose grid cannot be found.
    """
    unreached = []
    for path, quantizer in named_quantizers(part).items():
        try:
            quantizer.fit()
        except MethodInputError as error:
            raise MethodInputError(f"{path}: {error}") from error
        except NothingShownError as error:
            if within(path, roles):
                raise saw_nothing(path) from error
            unreached.append(path)
    leave_out(part, unreached)
    return unreached


def say(paths: Sequence[str]) -> None:
    """Warn of what stays in floating point, which the record shows."""
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        warnings.warn(
            f"no calibration image reached {paths[0]}{more}: what it would quantize stays in floating point",
            UserWarning,
            stacklevel=3,
        )
