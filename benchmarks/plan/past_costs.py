"""What measurements cost before: seconds and bytes by method and model, read from the records of results folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from vitq.record import CellKey

ENOUGH = 1e11
"""MACs that take seconds on any CPU."""
MOST_BYTES = 1 << 26
"""Of a records file, the newest part is enough for an estimate."""
NEAR = 8.0
"""A rate measured on a model of other size holds within this factor of MACs: small models are bound by other things."""


@dataclass(frozen=True)
class Spent:
    """One finished measurement: of what, how long, on how many images, and how large its model's file is."""

    kind: str
    cell: Mapping[str, Any]
    seconds: float
    images: int | None
    device: str
    bytes: int | None


@dataclass
class PastCosts:
    """All finished measurements that were made on this machine, and MACs and parameters of models, wherever counted."""

    spent: list[Spent] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def like(self, kind: str, cell: CellKey, device: str) -> list[Spent]:
        """Those of the same kind, method, model and device whose cells are the most like this one, if there are any."""
        found = [s for s in self.spent if s.kind == kind and s.device == device and _same(s, cell, kind)]
        best = max((_likeness(s, cell) for s in found), default=0)
        return [s for s in found if _likeness(s, cell) == best]

    def seconds(self, kind: str, cell: CellKey, device: str, images: int) -> float | None:
        """What such a measurement took, for so many images where images decide; None where nothing is known."""
        found = self.like(kind, cell, device)
        if not found:
            return None
        return mean(s.seconds * (images / s.images if kind == "accuracy" and s.images else 1.0) for s in found)

    def bytes(self, cell: CellKey) -> int | None:
        """Size of the file of such a model at these widths; None where nothing is known."""
        known = [s.bytes for s in self.spent if s.bytes and _same(s, cell, "model") and s.cell["bits"] == cell.bits]
        return known[-1] if known else None

    def rate(self, macs: int, device: str) -> float | None:
        """MACs a second that FP32 models of about this size reached when they were evaluated; None where unknown.

        Evaluations of fewer than `ENOUGH` MACs tell of what surrounds them, and not of the rate.
        """
        rates = []
        for s in self.spent:
            own = self.sizes.get(s.cell["model"], (0, 0))[0]
            alike = own and macs / NEAR <= own <= macs * NEAR
            if alike and s.kind == "accuracy" and s.device == device and s.images and s.seconds > 0:
                done = (1.0 if s.cell["method"] == "fp32" else 2.0) * own * s.images
                if done >= ENOUGH:
                    rates.append(done / s.seconds)
        return median(rates) if rates else None


def read_costs(folders: Iterable[Path], machine: str) -> PastCosts:
    """The costs in the records of these folders; what cannot be read is passed over, since it only informs a guess."""
    known = PastCosts()
    for folder in dict.fromkeys(folders):
        for record in _records(folder / "records.jsonl"):
            _take(known, record, machine)
    return known


def _records(path: Path) -> Iterator[Any]:
    try:
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MOST_BYTES))
            data = file.read()
    except (OSError, ValueError):
        return
    for line in data.split(b"\n"):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def _take(known: PastCosts, record: Any, machine: str) -> None:
    """Take note of a record, if it is one of a finished measurement."""
    try:
        if record["kind"] == "cell" or record["status"] != "done":
            return
        cell, origin = record["cell"], record["provenance"]
        model = str(cell["model"])
        if record["kind"] == "counts":
            known.sizes[model] = int(record["operations"]["macs"]), int(record["size"]["params"])
        if origin["machine"] != machine or not record["seconds"]:
            return
        found = Spent(
            kind=_name(record),
            cell={name: cell[name] for name in ("method", "model", "bits", "dataset", "options", "scope")},
            seconds=float(sum(record["seconds"].values())),
            images=next((int(m["n"]) for m in record["metrics"].values()), None) if record.get("metrics") else None,
            device=str(origin.get("device", "cpu")).partition(":")[0],
            bytes=int(record["model_file"]["bytes"]) if record.get("model_file") else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return
    known.spent.append(found)


def _name(record: Any) -> str:
    """The measurement's name: a runtime's rows are `latency:numba`, where its identity names another than torch."""
    runtime = str(record["identity"].get("runtime", "torch")).partition(":")[0].partition(" ")[0]
    return f"latency:{runtime}" if record["kind"] == "latency" and runtime != "torch" else str(record["kind"])


def _same(spent: Spent, cell: CellKey, kind: str) -> bool:
    own = spent.cell
    data = own["dataset"] == cell.dataset or kind not in ("accuracy", "model")
    return bool(own["method"] == cell.method and own["model"] == cell.model and data)


def _likeness(spent: Spent, cell: CellKey) -> int:
    own = spent.cell
    return (
        4 * bool(own["options"] == cell.options) + 2 * bool(own["bits"] == cell.bits) + bool(own["scope"] == cell.scope)
    )
