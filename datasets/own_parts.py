"""The parts of a folder of one's own: what is held out of evaluation, and what a cell calibrates on; without torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from vitq.datasets import attribution
from vitq.datasets.calibration import NOTHING, Calibration, enough, read_list
from vitq.datasets.listing import Item, draw, stratified
from vitq.datasets.own_layout import CALIBRATION, TRAIN, VAL
from vitq.errors import BadInputError

LEAST, MOST = 32, 1024
"""Images held out of a flat folder; the first is also the fewest that are left to evaluate."""
USUAL = Calibration().images
"""Calibration images where nobody says how many."""
_HELD_OUT_SEED = 1


def held_out(every: list[Item], hold_out: bool) -> dict[str, list[Item]]:
    """Images without splits by part: `calibration`, a fifth within the bounds above, and `val`, or `val` alone."""
    share = min(MOST, max(LEAST, len(every) // 5))
    if not hold_out or len(every) - share < LEAST:
        return {VAL: every}
    held = stratified(every, share, _HELD_OUT_SEED)
    return {CALIBRATION: held, VAL: sorted(set(every) - set(held))}


def tell_held_out(name: str, parts: Mapping[str, list[Item]]) -> None:
    """Say how many images are kept out of evaluation; the warning reaches the record."""
    if CALIBRATION in parts:
        held, left = len(parts[CALIBRATION]), len(parts[VAL])
        warnings.warn(
            f"{held} of the {held + left} of {name} are held out to calibrate and train on; {left} are evaluated",
            UserWarning,
            stacklevel=2,
        )


def default_part(parts: Mapping[str, list[Item]]) -> str:
    """The part that calibration images come from where none is named."""
    return next(name for name in (TRAIN, CALIBRATION, VAL) if name in parts)


def calibrated(root: Path, parts: Mapping[str, list[Item]], spec: Calibration) -> list[Item]:
    """The images to calibrate on, in order, as `spec.list` says; BadInputError where there are too few of them."""
    if spec.list == NOTHING:
        return []
    if spec.list in ("seeded", "first"):
        name = spec.split or default_part(parts)
        if name not in parts:
            raise BadInputError(f"calibration: there is no split {name!r}; known: {', '.join(parts)}")
        every = parts[name]
        return _as_many(every[: spec.images] if spec.list == "first" else draw(every, spec.images, spec.seed), spec)
    known = {item.path: item for items in parts.values() for item in items}
    names = named(root, spec)[: spec.images]
    for path in names:
        if path not in known:
            raise BadInputError(f"calibration: {spec.list} names {path!r}, which is no image of {root}")
    return enough([known[path] for path in names], spec)


def named(root: Path, spec: Calibration) -> list[str]:
    """All names of a list that is not drawn."""
    return attribution.ordered(root) if spec.list == "attribution" else read_list(Path(spec.list))


def _as_many(chosen: list[Item], spec: Calibration) -> list[Item]:
    """Those there are where the usual number was asked for and it is more than there are; else as many as asked."""
    if len(chosen) < spec.images == USUAL:
        warnings.warn(
            f"calibrated on all {len(chosen)} images that there are for it, fewer than the usual {spec.images}",
            UserWarning,
            stacklevel=2,
        )
        return chosen
    return enough(chosen, spec)
