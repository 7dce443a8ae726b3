"""Lists of images, and choices from them that depend on names and a seed alone."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Item:
    """One labelled image: its path relative to the data set's folder (or its index), and its class index."""

    path: str
    label: int


def is_plain(name: str) -> bool:
    """Whether a name can stand in a list, a line each: UTF-8, without control characters or line separators."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)


def rank(seed: int, path: str) -> str:
    """Where a seed puts a name: sha256 of "<seed>:<path>", the same on every machine and Python."""
    return hashlib.sha256(f"{seed}:{path}".encode()).hexdigest()


def draw(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """`count` items in the order of their rank, a pure function of seed and names; a smaller draw is a prefix."""
    return sorted(items, key=lambda item: rank(seed, item.path))[:count]


def quotas(sizes: dict[int, int], count: int, seed: int) -> dict[int, int]:
    """How many of each class make `count` in proportion, each within 1 of its exact share.

    Systematic sampling (Madow, 1949): classes lie end to end in the order of their rank, and every total / count steps
    from a seeded start one image is due. A class of few images is taken as often as its share says, where rounding to
    the largest remainder would take the large classes alone.
    """
    total, before = sum(sizes.values()), 0
    start = int(rank(seed, "start"), 16) % total
    share = {}
    for label in sorted(sizes, key=lambda label: rank(seed, str(label))):
        after = before + sizes[label]
        share[label] = (count * after + start) // total - (count * before + start) // total
        before = after
    return share


def stratified(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """A subset of `count` items with the classes in proportion, chosen by the seed, in the order of `items`."""
    if count >= len(items):
        return list(items)
    by_class: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        by_class[item.label].append(item)
    share = quotas({label: len(members) for label, members in by_class.items()}, count, seed)
    chosen = {item for label, members in by_class.items() for item in draw(members, share[label], seed)}
    return [item for item in items if item in chosen]


def as_text(items: Sequence[Item]) -> str:
    """One path a line; a calibration list that can be read back."""
    return "".join(f"{item.path}\n" for item in items)
