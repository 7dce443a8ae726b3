"""Files of models of one's own: a YAML list of entries as in `models.yaml`, or of checkpoints in a few words.

- name: seven                        # a checkpoint of one's own
  architecture: vit_tiny_patch16_224 # timm's name
  weights: seven.safetensors         # from the file's own folder; or as [weights] of the site file says
  num_classes: 7                     # taken from the tensors where it is left out, as is img_size
- name: big                          # a whole entry, see `names.ModelEntry`
  preprocessing: { size: [3, 224, 224], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] }
  build: { timm: vit_large_patch16_224, args: { num_classes: 7 } }
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitq import yaml_text
from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError
from vitq.tasks.names import ModelEntry
from vitq.words import describe, location


class OwnRow(BaseModel):
    """A checkpoint of one's own in a models file; see `own_models.own_entry`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1)
    architecture: str
    num_classes: int | None = Field(default=None, ge=0)
    img_size: int | None = Field(default=None, ge=1)
    args: dict[str, Any] = Field(default_factory=dict)
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class ModelsFile:
    """What a models file says: entries, and by their names where their weights are."""

    entries: list[ModelEntry]
    weights: dict[str, Path] = field(default_factory=dict)


def load_models_file(path: Path) -> ModelsFile:
    """Read a models file; BadInputError names the file and the line of what is wrong."""
    shown = str(path)
    try:
        text = yaml_text.read_text(path)
    except (OSError, ValueError) as error:
        raise BadInputError(f"models file {shown} cannot be read: {error}") from None
    rows, node = yaml_text.parse(text, shown)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise BadInputError(f"{shown} is no models file: it must be a list of entries, each with a name")
    entries: dict[str, ModelEntry] = {}
    weights: dict[str, Path] = {}
    for number, row in enumerate(rows):
        entry, place = _read(row, path.parent, _At(shown, node, number))
        if entry.name in entries:
            raise BadInputError(f"{_At(shown, node, number).line('name')}: the model {entry.name!r} was given before")
        entries[entry.name] = entry
        weights |= {} if place is None else {entry.name: place}
    return ModelsFile(list(entries.values()), weights)


@dataclass(frozen=True)
class _At:
    """A row of a file, which can say in which line a key of it stands."""

    shown: str
    node: yaml.Node | None
    number: int

    def line(self, *path: str | int) -> str:
        """`FILE line N`."""
        return f"{self.shown} line {yaml_text.line_of(self.node, (self.number, *path))}"


def _read(row: Mapping[str, Any], folder: Path, at: _At) -> tuple[ModelEntry, Path | None]:
    given = dict(row)
    place = _place(given.pop("weights", None), folder, at)
    whole = "build" in given or ("preprocessing" in given and "architecture" not in given)
    schema = ModelEntry if whole else OwnRow
    try:
        known = schema.model_validate(given)
    except ValidationError as error:
        raise BadInputError(f"{at.line(*location(error))}: {describe(error, schema)}") from None
    if isinstance(known, ModelEntry):
        return known, place
    assert isinstance(known, OwnRow)
    return _own(known, place, at), place


def _own(row: OwnRow, place: Path | None, at: _At) -> ModelEntry:
    from vitq.tasks.own_models import own_entry  # brings timm, which a file of whole entries is read without

    sizes = {"num_classes": row.num_classes, "img_size": row.img_size}
    try:
        entry = own_entry(row.name, row.architecture, weights=place, args=row.args, **sizes)
    except BadInputError as error:
        raise BadInputError(f"{at.line('architecture')}: {error}") from None
    return entry if row.preprocessing is None else entry.model_copy(update={"preprocessing": row.preprocessing})


def _place(value: Any, folder: Path, at: _At) -> Path | None:
    """The file of a row's weights; BadInputError where it is none."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise BadInputError(f"{at.line('weights')}: weights is {value!r}: name a file")
    place = folder / Path(value).expanduser()
    if not place.is_file():
        raise BadInputError(f"{at.line('weights')}: no weights file is at {place}")
    return place.resolve()
