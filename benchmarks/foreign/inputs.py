"""How images become a foreign model's input: what a user says, what vitq wrote into the file, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vitq.benchmarks.measure.exporting import PREPROCESSING
from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError
from vitq.tasks.names import model_entry


@dataclass(frozen=True)
class Wanted:
    """What a user says of the input: `like` names a model (ours, or any of timm's) whose preprocessing is taken.

    Each of the others comes before what `like` or the file says. `size` is the side of the square input.
    """

    like: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    size: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None

    def preprocessing(
        self, name: str, written: Mapping[str, str], sides: tuple[int | None, int | None]
    ) -> Preprocessing:
        """Of a file `name` with this metadata and these sides of its input, None for any side.

        BadInputError where nothing says how images become the input, or the sizes disagree.
        """
        fields = self._known(name, written)
        given = {"mean": self.mean, "std": self.std, "crop_pct": self.crop_pct, "interpolation": self.interpolation}
        fields |= {key: value for key, value in given.items() if value is not None}
        fields["size"] = self._size(name, fields.get("size"), sides)
        absent = [
            f"--{key.replace('_', '-')}" for key in ("mean", "std", "crop_pct", "interpolation") if key not in fields
        ]
        if absent:
            raise BadInputError(
                f"{name} does not say how images become its input: give --like TIMM_MODEL, or {', '.join(absent)} too"
            )
        try:
            return TypeAdapter(Preprocessing).validate_python(fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise BadInputError(f"preprocessing: {first['loc'][0]}: {first['msg']}") from None

    def _known(self, name: str, written: Mapping[str, str]) -> dict[str, Any]:
        if self.like is not None:
            how = model_entry(self.like).preprocessing
            if not isinstance(how, Preprocessing):
                raise BadInputError(f"--like {self.like} is no classifier: name one")
            return as_fields(how)
        if PREPROCESSING not in written:
            return {}
        try:
            return as_fields(TypeAdapter(Preprocessing).validate_json(written[PREPROCESSING]))
        except ValidationError:
            raise BadInputError(
                f"{name} holds a preprocessing that this vitq cannot read: give --like TIMM_MODEL"
            ) from None

    def _size(self, name: str, known: Any, sides: tuple[int | None, int | None]) -> tuple[int, int, int]:
        """The file's sides where it fixes them, else those that are given."""
        height, width = sides
        if height and width:
            if self.size is not None and (height, width) != (self.size, self.size):
                raise BadInputError(f"{name} takes images of {height} x {width}, not of {self.size} x {self.size}")
            return (3, height, width)
        if self.size is not None:
            return (3, self.size, self.size)
        if known is None:
            raise BadInputError(f"{name} takes images of any size: give --size, or --like TIMM_MODEL")
        channels, height, width = known
        return (channels, height, width)


def as_fields(how: Preprocessing) -> dict[str, Any]:
    """A preprocessing by the names of its fields."""
    fields: dict[str, Any] = json.loads(as_text(how))
    return fields


def as_text(how: Preprocessing) -> str:
    """A preprocessing as a file keeps it."""
    return TypeAdapter(Preprocessing).dump_json(how).decode()
