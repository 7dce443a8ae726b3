"""What decides each measurement of a foreign model, part by part, as `plan.identity` has it for cells."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from vitq.benchmarks.foreign.model import Facts
from vitq.benchmarks.plan.code_identity import code_sha256
from vitq.benchmarks.plan.identity import data_code, version
from vitq.benchmarks.plan.suite import Latency
from vitq.benchmarks.run.provenance import machine_id
from vitq.datasets import registry as datasets
from vitq.datasets.identity import data_identity
from vitq.datasets.preprocessing import Preprocessing
from vitq.record import ELSEWHERE, CellKey, Identity, Name, key_of
from vitq.subject import WHOLE

_HERE = "vitq.benchmarks.foreign"
_MEASURE = "vitq.benchmarks.measure"


def identities(
    cell: CellKey, facts: Facts, how: Preprocessing, folders: dict[str, Path], latency: Latency | None, threads: int
) -> dict[Name, Identity]:
    """The measurements by name; counts only where the size could be counted."""
    model = {
        "method": ELSEWHERE,
        "options": "{}",
        "bits": facts.bits,
        "scope": WHOLE,
        "made by": facts.made_by,
        "weights": facts.sha256,
        "format": facts.format,
        "runtime": f"{facts.runtime} {facts.version}",
        "code of the reading": code_sha256(f"{_HERE}.opening", f"{_HERE}.{_reader(facts)}"),
    }
    found: dict[Name, Identity] = {"model": model, "accuracy": _accuracy(cell, model, how, folders)}
    if facts.size is not None:
        found["counts"] = {**model, "input": json.dumps(how.size)}
    if latency is not None:
        found["latency"] = {
            "model": key_of(model),
            "batch": ", ".join(map(str, latency.batches)),
            "threads": str(threads),
            "rounds": f"{latency.runs} after {latency.warmup}",
            "input": json.dumps(how.size),
            "device": "cpu",
            "machine": machine_id(),
            "code of the latency": code_sha256(alone=(f"{_MEASURE}.timing", f"{_HERE}.timing")),
        }
    return found


def _accuracy(cell: CellKey, model: Identity, how: Preprocessing, folders: dict[str, Path]) -> Identity:
    data = data_identity(cell.dataset, folders, limit=cell.limit)
    names = sorted({"torch", "timm", "numpy", *datasets.load(cell.dataset).packages})
    return {
        **model,
        "preprocessing": json.dumps(asdict(how), sort_keys=True),
        "validation": data["validation"],
        "subset": data["subset"],
        "code of the data": data_code(cell.dataset),
        "code of the accuracy": code_sha256(alone=(f"{_MEASURE}.accuracy",)),
        "packages": ", ".join(f"{name} {version(name)}" for name in names),
        "device": "cpu",
    }


def _reader(facts: Facts) -> str:
    return {"onnx": "onnx_files", "openvino": "openvino_files"}.get(facts.format, "torch_files")
