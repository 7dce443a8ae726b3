"""Records and figures made by hand, small enough to read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from vitq.record import CellKey, LatencyRow, Metric, Operations, Provenance, Size
from vitq.reports.figure import Figure
from vitq.rows import Row

CALIBRATION = {"images": 32, "batch": 32, "seed": 0, "list": "attribution", "train_batch": 64, "augment": "light"}
REPQ = {"log_code_overflow": "zero", "rounded_zero_point": False, "layernorm": "reparam", "softmax": "log_sqrt2"}


def make_record(top1: float | None = 69.0, fp32: float | None = 79.85, n: int = 50_000, **changes: Any) -> Row:
    """RepQ-ViT on the whole of ImageNet with DeiT-S at W4A4, changed where asked; None leaves a metric out."""
    cell_fields = set(CellKey.model_fields)
    method, bits, seed = changes.get("method", "repq_vit"), changes.get("bits", "W4A4"), changes.get("seed", 0)
    model, variant = changes.get("model", "deit_small_patch16_224.fb_in1k"), changes.get("variant", "")
    named, dataset = method + (f"[{variant}]" if variant else ""), changes.get("dataset", "imagenet-1k")
    rest = f"/limit{changes['limit']}" if changes.get("limit") else ""
    cell: dict[str, Any] = {
        "id": f"{named}/classification/{dataset}/{model}/{bits}/seed{seed}{rest}",
        "method": method,
        "options": REPQ if method == "repq_vit" else {},
        "task": "classification",
        "dataset": "imagenet-1k",
        "model": model,
        "bits": bits,
        "calibration": CALIBRATION,
    }
    cell |= {key: value for key, value in changes.items() if key in cell_fields}
    fields: dict[str, Any] = {
        "keys": {"accuracy": hashlib.sha256(repr(sorted(cell.items(), key=str)).encode()).hexdigest()},
        "paper_name": "deit_small",
        "status": "done",
        "fidelity": "released-code",
        "metrics": {} if top1 is None else {"top1": Metric(value=top1, n=n, stderr=0.21)},
        "fp32": {} if fp32 is None else {"top1": Metric(value=fp32, n=n, stderr=0.18)},
        "size": Size(params=22_050_664, fp32_mb=88.2, packed_mb=11.5),
        "operations": Operations(macs=4_598_900_000, bitops=76_400_000_000, ops=1_500_000_000.0),
        "provenance": Provenance(vitq="0.1.0", machine="box", cpu="a CPU", finished="2026-01-01T00:00:00+00:00"),
    }
    fields |= {key: value for key, value in changes.items() if key in set(Row.model_fields) - {"cell"}}
    return Row(cell=CellKey(**cell), **fields)


def make_figure(**changes: Any) -> Figure:
    """RepQ-ViT's printed DeiT-S figure at W4A4, changed where asked."""
    fields: dict[str, Any] = {
        **{"method": "repq_vit", "cell_method": "repq_vit", "task": "classification", "dataset": "imagenet-1k"},
        **{"model": "deit_small", "w_bits": 4, "a_bits": 4, "metric": "top1", "value": 69.03, "fp_value": 79.85},
        **{"table": "Table 1", "evidence": "primary", "source": "README", "decimals": 2},
        **{"tolerance": 0.8, "tolerance_reason": "re-runs differ by up to 0.8"},
    }
    return Figure(**(fields | changes))


def latency_row(exec_: str, ms: float, batch: int = 8) -> LatencyRow:
    """A latency row of one sample."""
    return LatencyRow(exec=exec_, batch=batch, threads=2, device="cpu", median_ms=ms, p90_ms=ms, samples_ms=[ms])


@pytest.fixture(scope="session")
def record() -> Callable[..., Row]:
    """The maker of records."""
    return make_record


@pytest.fixture(scope="session")
def figure() -> Callable[..., Figure]:
    """The maker of figures."""
    return make_figure


@pytest.fixture(scope="session")
def latency() -> Callable[..., LatencyRow]:
    """The maker of latency rows."""
    return latency_row
