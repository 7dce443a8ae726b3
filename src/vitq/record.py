"""A record: one JSON line a measurement, and one a cell that says which measurements are its own.

Imported by `reports` too, so it needs pydantic alone. A line is told apart by `kind`:

    cell       who asked: a cell's names, and the keys of its measurements
    model      the quantized model: how long it took, what the method says of it, its file
    accuracy   the task's metrics of a model on validation data
    counts     size and operations of an architecture
    latency    times of a model's execution forms

A measurement is known by its key, the sha256 of its identity; a cell by what was asked for. Two cells that ask for the
same measurement share it, and `rows` joins them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from vitq.details import Details, with_details
from vitq.subject import WHOLE

SCHEMA_VERSION = 2

Status = Literal["done", "failed", "oom", "unsupported"]
Kind = Literal["model", "accuracy", "counts", "latency"]
KINDS: tuple[Kind, ...] = ("model", "accuracy", "counts", "latency")
Identity = dict[str, str]
"""What decides a measurement, by the name of the part: a short text as it is, or the sha256 of a long one."""
Share = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    # Without constants NaN is written as null, and a line with null cannot be read back as a number.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


def key_of(identity: Identity) -> str:
    """sha256 of the parts, in the order of their names."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


class CellKey(_Strict):
    """What is asked for, in names alone: what `-k` picks, what a gate matches by.

    `id` is readable and unique: method[variant]/task/dataset/model/bits/seed, then the limit and the scope where they
    are not the whole (`asked` makes it). `limit` evaluates a seeded, class-stratified subset of that many images.
    """

    id: str
    method: str
    variant: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    task: str
    dataset: str
    model: str
    bits: str
    seed: int = 0
    scope: str = WHOLE
    limit: int | None = None
    calibration: dict[str, Any] = Field(default_factory=dict)

    def asked(self, **changes: Any) -> CellKey:
        """The same cell with other fields, under the id that follows from them."""
        cell = self.model_copy(update=changes)
        named = cell.method + (f"[{cell.variant}]" if cell.variant else "")
        parts = [named, cell.task, cell.dataset, cell.model, cell.bits, f"seed{cell.seed}"]
        parts += [f"limit{cell.limit}"] if cell.limit is not None else []
        parts += [f"scope-{cell.scope}"] if cell.scope != WHOLE else []
        return cell.model_copy(update={"id": "/".join(parts)})


class Metric(_Strict):
    """A metric with what it was measured on: value in percent, n samples, standard error in percentage points."""

    value: Share
    n: int = Field(ge=1)
    stderr: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class Size(_Strict):
    """Model size. `packed_mb`: as it would ship (weights at their width, scales, biases, what stays in FP), 10^6 bytes.

    `conventions` holds the size by each paper's own convention, by name.
    """

    params: int = Field(ge=1)
    fp32_mb: Positive
    packed_mb: Positive
    conventions: dict[str, float] = Field(default_factory=dict)


class Operations(_Strict):
    """Operations of one forward pass of one image: MACs with attention products, BitOPs, OPs = BOPs/64 + FLOPs."""

    macs: int = Field(ge=0)
    bitops: int = Field(ge=0)
    ops: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    conventions: dict[str, float] = Field(default_factory=dict)


class LatencyRow(_Strict):
    """Latency of one execution form.

    `exec`: fp32, fake-quant, int8-kernel:<runtime>, integer-only:<runtime> or xnor:<runtime>. A fake-quant row says
    what an evaluation costs; it is never a speed-up. Samples are milliseconds a batch, measured in turn with the FP32
    model's: sample i of every form is of the same round.
    """

    exec: str
    batch: int = Field(ge=1)
    threads: int = Field(ge=1)
    device: str
    median_ms: Positive
    p90_ms: Positive
    samples_ms: list[Positive] = Field(min_length=1)


class ModelFile(_Strict):
    """A quantized model as a file: relative path, sha256 and bytes, of which `header_bytes` are no payload."""

    path: str
    sha256: str
    bytes: int = Field(ge=1)
    header_bytes: int = Field(ge=0)
    kept: bool = True


class Calibrated(_Strict):
    """Calibration images that a method really read, of how many it was given; `evaluated` of them are evaluated too."""

    read: int = Field(ge=0)
    given: int = Field(ge=0)
    evaluated: int = Field(default=0, ge=0)


class Provenance(_Strict):
    """Where a record comes from; `threads` of torch, `settings` of its arithmetic (TF32, determinism)."""

    vitq: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    python: str = ""
    cpu: str = ""
    gpu: str | None = None
    machine: str = ""
    device: str = "cpu"
    threads: int | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    command: str = ""
    finished: str = ""


Fidelity = Literal["released-code", "paper", "reconstruction", "baseline"]


class Record(_Strict):
    """One measurement of a cell. Fields that its kind does not measure are empty.

    Attributes:
        key: sha256 of `identity`; a record whose key does not fit is refused when it is read.
        cell: the cell that asked first.
        outcomes: file of every sample's outcome, relative to the results folder (see `outcomes`).
        calibrated: calibration images that were read.
        details: what the method says of its work, in the method's own type; None where it says nothing.
        files: artifacts by name, relative to the results folder.
        seconds: by phase, the device waited for.
        traceback: where an error that nobody foresaw was raised.
    """

    schema_version: Literal[2] = 2
    kind: Kind
    key: str
    identity: Identity
    cell: CellKey
    status: Status
    fidelity: Fidelity = "baseline"
    metrics: dict[str, Metric] = Field(default_factory=dict)
    outcomes: str | None = None
    output_sha256: str | None = None
    size: Size | None = None
    operations: Operations | None = None
    latency: list[LatencyRow] = Field(default_factory=list)
    model_file: ModelFile | None = None
    calibrated: Calibrated | None = None
    details: SerializeAsAny[Details] | None = None
    files: dict[str, str] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_memory_mb: float | None = None
    error: str | None = None
    traceback: str | None = None
    warnings: list[str] = Field(default_factory=list)
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, fields: Any) -> Any:
        return with_details(fields)

    @model_validator(mode="after")
    def _keyed(self) -> Record:
        if self.key != key_of(self.identity):
            raise ValueError("its key is not that of its identity: the line was edited")
        if self.status == "done" and not self._measured():
            raise ValueError(f"a finished {self.kind} record without what it measured")
        if self.status != "done" and not self.error:
            raise ValueError(f"a record that is {self.status} without a reason")
        return self

    def _measured(self) -> bool:
        held = {
            "model": True,
            "accuracy": bool(self.metrics),
            "counts": self.size is not None and self.operations is not None,
            "latency": bool(self.latency),
        }
        return held[self.kind]

    @property
    def finished(self) -> bool:
        """Whether this need not be done again: failures are tried again, done and unsupported are not."""
        return self.status in ("done", "unsupported")


class Asked(_Strict):
    """A cell was asked for: the keys of its measurements, and of the FP32 accuracy that it is compared with."""

    schema_version: Literal[2] = 2
    kind: Literal["cell"] = "cell"
    cell: CellKey
    keys: dict[Kind, str]
    fp32_key: str | None = None
    paper_name: str | None = None
    provenance: Provenance


Line = Record | Asked


def parse_line(content: Mapping[str, Any]) -> Line:
    """A record from a line's JSON; pydantic's ValidationError where it is none."""
    return Asked.model_validate(content) if content.get("kind") == "cell" else Record.model_validate(content)
