"""Whether mmengine, mmcv, mmdet and mmseg are there, and how they are made ready to be imported."""

from __future__ import annotations

import importlib.util
import logging
import sys
from contextlib import suppress
from importlib import metadata
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from vitq.errors import UnsupportedError

MM = ("mmengine", "mmcv", "mmdet", "mmseg")
"""What `vitq[mm]` brings: OpenMMLab's packages, or the maintained forks of the same import names."""
DISTRIBUTIONS = (
    *("onedl-mmengine", "onedl-mmcv", "onedl-mmdetection", "onedl-mmsegmentation"),
    *("mmengine", "mmcv", "mmcv-lite", "mmdet", "mmsegmentation"),
    *("torchvision", "faster-coco-eval"),
)
"""Whose versions may decide what these models compute and how it is judged."""
COMPILED = "mmcv._ext"
"""mmcv's compiled operators; neither mmcv-lite nor the forks hold them."""


def why_absent(*packages: str) -> str | None:
    """Why models of these packages (all four unless told) cannot be built; None where all are installed."""
    missing = [name for name in packages or MM if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed: pip install 'vitq[mm]'" if missing else None


def installed() -> list[str]:
    """Those of `DISTRIBUTIONS` that are installed; of them the forks come first."""
    found = []
    for name in DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):
            metadata.version(name)
            found.append(name)
    return found


def prepare() -> None:
    """Make mmcv importable whole: where its operators are not compiled, ours stand in for the few that are needed.

    Raises UnsupportedError, with what to install, where a package is missing.
    """
    missing = why_absent()
    if missing is not None:
        raise UnsupportedError(missing)
    if COMPILED not in sys.modules and not _is_compiled():
        sys.modules[COMPILED] = _substitute()
    _keep_stdout_clean()


def _is_compiled() -> bool:
    return importlib.util.find_spec(COMPILED) is not None


class _Substitute(Loader):
    """mmcv asks for the loader of its operators to learn whether they are there."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        from vitq.mm.operators import Operators

        return Operators(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the operators are attributes of its class."""


def _substitute() -> ModuleType:
    spec = ModuleSpec(COMPILED, _Substitute())
    return importlib.util.module_from_spec(spec)


def _keep_stdout_clean() -> None:
    """Give what mmengine would print for want of a logger to the logger `mmengine`: stdout is for tables and JSON.

    The forks print there on import, at debug level, that an optional package of theirs is missing.
    """
    from mmengine import logging as theirs

    given = theirs.print_log
    if getattr(given, "prints_nothing", False):
        return

    def print_log(msg: str, logger: Any = None, level: int = logging.INFO) -> None:
        given(msg, logging.getLogger("mmengine") if logger is None else logger, level)

    print_log.prints_nothing = True  # type: ignore[attr-defined]
    theirs.print_log = print_log
