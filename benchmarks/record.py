"""The record of a cell: one JSON line. Imported by `reports` too, so it needs pydantic alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Status = Literal["done", "failed", "oom", "unsupported"]


class _Strict(BaseModel):
    # Without constants NaN is written as null, and a line with null cannot be read back as a number.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class CellKey(_Strict):
    """Everything that decides a cell's result, before any file is read.

    `id` is readable and unique in a suite: method[:variant]/task/model/bits/seed, which `-k` expressions pick.
    `dataset` is a name from `datasets`; `limit` evaluates a seeded, class-stratified subset of that many images.
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
    scope: str = "model"
    limit: int | None = None
    calibration: dict[str, Any] = Field(default_factory=dict)


class Metric(_Strict):
    """A metric with what it was measured on: value in percent, n samples, standard error in percentage points."""

    value: float
    n: int
    stderr: float | None = None


class Size(_Strict):
    """Model size. `packed_mb`: as it would ship (weights at their width, scales, biases, what stays in FP), 10^6 bytes.

    `conventions` holds the size by each paper's own convention, by name.
    """

    params: int
    fp32_mb: float
    packed_mb: float
    conventions: dict[str, float] = Field(default_factory=dict)


class Operations(_Strict):
    """Operations of one forward pass of one image: MACs with attention products, BitOPs, OPs = BOPs/64 + FLOPs."""

    macs: int
    bitops: int
    ops: float
    conventions: dict[str, float] = Field(default_factory=dict)


class LatencyRow(_Strict):
    """Latency of one execution form.

    `exec`: fp32, fake-quant, int8-kernel:<runtime>, integer-only:<runtime> or xnor:<runtime>. A fake-quant row says
    what an evaluation costs; it is never a speed-up. Samples are milliseconds a batch, measured in turn with the FP32
    model's.
    """

    exec: str
    batch: int
    threads: int
    device: str
    median_ms: float
    p90_ms: float
    samples_ms: list[float]


class Provenance(_Strict):
    """Where a record comes from."""

    vitq: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    python: str = ""
    cpu: str = ""
    gpu: str | None = None
    machine: str = ""
    command: str = ""
    finished: str = ""


class Record(_Strict):
    """One finished cell."""

    schema_version: int = SCHEMA_VERSION
    fingerprint: str
    cell: CellKey
    status: Status
    fidelity: Literal["released-code", "paper", "reconstruction", "baseline"] = "baseline"
    metrics: dict[str, Metric] = Field(default_factory=dict)
    fp32: dict[str, Metric] = Field(default_factory=dict)
    size: Size | None = None
    operations: Operations | None = None
    latency: list[LatencyRow] = Field(default_factory=list)
    phases: dict[str, float] = Field(default_factory=dict)
    peak_memory_mb: float | None = None
    seed: int = 0
    error: str | None = None
    warnings: list[str] = Field(default_factory=list)
    details: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    weights_sha256: str | None = None
    data_sha256: str | None = None
    provenance: Provenance
