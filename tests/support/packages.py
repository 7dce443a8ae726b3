"""Distributions of others made on the spot: a folder for Python's path with packages and their entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    place: Path, distribution: str, entry_points: Mapping[str, Mapping[str, str]], files: Mapping[str, str]
) -> Path:
    """Write a distribution with entry points (group to name to place) and its files by path; returns the folder."""
    info = place / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    sections = [[f"[{group}]", *(f"{n} = {at}" for n, at in given.items())] for group, given in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(line for section in sections for line in section))
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


CARD = """\
name: halves
title: Rounding to halves
paper: none
regime: PTQ
fidelity: baseline
summary: Weights to the nearest half.
reads: {calibration: {only: {look: [true]}}}
supports: {weights: [4], activations: [4], reason: halves has W4A4 alone}
compared: Nothing.
"""
OPTIONS = """\
from dataclasses import dataclass
from typing import Literal

from vitq.options import option


@dataclass(frozen=True)
class Options:
    look: bool = option(False, source="ours", effect="row")
    to: Literal["even", "up"] = option("even", source="ours", effect="recipe")
"""
METHOD = """\
import torch

from their_halves.options import Options
from vitq.methods.base import Quantized


def unsupported(bits, options):
    return None


def quantize(subject, bits, options):
    with torch.no_grad():
        for parameter in subject.part.parameters():
            parameter.mul_(2).round_().div_(2)
    return Quantized(subject.model)
"""
MODELS = """\
from vitq.tasks.names import ModelEntry, model_entries

_LIKE = model_entries()["digits_vit"].model_dump(by_alias=True)
_OWN = {"packaged": False, "sha256": None, "expected": {}}
ENTRIES = [ModelEntry(**{**_LIKE, **_OWN, "name": name}) for name in ("their_vit", "their_other_vit")]
"""
DATA = """\
from dataclasses import replace

from vitq.datasets.digits import DIGITS

SCANS = replace(DIGITS, name="their_scans", full_size=7)
"""
EVERYTHING = {
    "vitq.methods": {"halves": "their_halves"},
    "vitq.models": {"their_vit": "their_data.models:ENTRIES", "their_other_vit": "their_data.models:ENTRIES"},
    "vitq.datasets": {"their_scans": "their_data.scans:SCANS"},
}


def install_everything(place: Path) -> Path:
    """A distribution that adds a method, two models and a data set."""
    method = {"card.yaml": CARD, "options.py": OPTIONS, "method.py": METHOD}
    files = {f"their_halves/{name}": text for name, text in method.items()}
    files |= {"their_data/models.py": MODELS, "their_data/scans.py": DATA}
    inits = {"their_halves/__init__.py": "", "their_data/__init__.py": ""}
    return install(place, "their-things", EVERYTHING, files | inits)
