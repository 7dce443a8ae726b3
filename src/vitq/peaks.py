"""What a machine can do at most, measured: rates of products at each width, and of memory. Read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vitq.errors import BadInputError
from vitq.record import LatencyAround
from vitq.words import describe

What = Literal["fp32", "bf16", "int8", "binary", "copy", "read"]
PRODUCTS: tuple[What, ...] = ("fp32", "bf16", "int8", "binary")
"""Rates of products, in MAC/s."""
MEMORY: tuple[What, ...] = ("copy", "read")
"""Rates of memory, in bytes/s, counted as STREAM does."""
CONVENTION = (
    "MAC/s: multiply-accumulates of a dense product, one a pair of factors (2 FLOP); bytes/s as STREAM counts them: a "
    "copy moves every byte twice, read and written, what a cache fetches before it is written not counted; arrays are "
    "at least 4 times the last cache"
)
_LARGEST = 10_000_000
Rated = Annotated[float, Field(gt=0, lt=1e21, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Strict):
    """A rate: median and quartiles over rounds.

    Attributes:
        what: the width of a product, or what memory did.
        by: what computed it; `size` of what.
    """

    what: What
    by: str
    size: str
    median: Rated
    lower: Rated
    upper: Rated
    rounds: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Rate:
        if not self.lower <= self.median <= self.upper:
            raise ValueError("a median that is not between its quartiles")
        return self

    @property
    def unit(self) -> str:
        """`MAC/s` or `B/s`."""
        return "MAC/s" if self.what in PRODUCTS else "B/s"


class Peaks(_Strict):
    """The rates of one machine with so many threads.

    Attributes:
        machine: its stable name, as in the provenance of records; `cpu` and `gpu` as the system calls them.
        rates: every rate that was measured, several of one kind where several libraries were tried.
        left_out: what was not measured, `<what> by <by>`, and why.
        around: what else the machine did meanwhile.
    """

    schema_version: Literal[1] = 1
    machine: str
    cpu: str
    gpu: str | None = None
    instruction_sets: list[str] = Field(default_factory=list)
    device: str
    threads: int = Field(ge=1)
    convention: str = CONVENTION
    rates: list[Rate] = Field(min_length=1)
    left_out: dict[str, str] = Field(default_factory=dict)
    around: LatencyAround = Field(default_factory=LatencyAround)
    packages: dict[str, str] = Field(default_factory=dict)

    def best(self, what: What) -> Rate | None:
        """The highest rate of a kind: the machine's peak, as far as anything here reaches it. None if not measured."""
        return max((rate for rate in self.rates if rate.what == what), key=lambda rate: rate.median, default=None)


def read_peaks(path: Path) -> Peaks:
    """What `vitq peaks -o` wrote; BadInputError where it cannot be read as that."""
    try:
        if not path.is_file():
            raise BadInputError(f"there are no peaks at {path}: measure them with `vitq peaks -o FILE`")
        if path.stat().st_size > _LARGEST:
            raise BadInputError(f"{path} is too large to hold the peaks of a machine")
        return Peaks.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadInputError(f"{path} does not hold the peaks of a machine: {describe(error, Peaks)}") from None
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
