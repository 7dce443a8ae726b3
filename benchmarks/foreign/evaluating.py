"""Measuring a foreign model and keeping its records in a results folder, as those of any cell."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vitq import outcomes
from vitq.benchmarks.foreign.identities import identities
from vitq.benchmarks.foreign.inputs import Wanted
from vitq.benchmarks.foreign.opening import Opened, open_foreign
from vitq.benchmarks.foreign.timing import timed
from vitq.benchmarks.measure.accuracy import measured
from vitq.benchmarks.plan.suite import Latency
from vitq.benchmarks.run import provenance
from vitq.benchmarks.run.results_path import check_results
from vitq.benchmarks.run.shipping import write_whole
from vitq.benchmarks.run.store import Store
from vitq.datasets.calibration import NOTHING
from vitq.datasets.identity import check_limit
from vitq.details.elsewhere import Details
from vitq.methods.toolkit import devices
from vitq.record import ELSEWHERE, Asked, CellKey, Identity, ModelFile, Name, Operations, Record, key_of, kind_of
from vitq.rows import Row
from vitq.subject import Progress, silent
from vitq.tasks.base import Data, LoadedModel
from vitq.tasks.places import Places
from vitq.tasks.registry import load as load_task

TASK = "classification"
NO_CALIBRATION = {"list": NOTHING}
"""A data set opened to evaluate alone."""


def evaluate_foreign(
    path: Path,
    dataset: str,
    *,
    places: Places,
    results: Path,
    wanted: Wanted | None = None,
    limit: int | None = None,
    latency: Latency | None = None,
    threads: int | None = None,
    trust: bool = False,
    name: str | None = None,
    command: str = "",
    progress: Progress = silent,
) -> Row:
    """The row of a file's model on a data set, its records kept in `results`; what is there already is not made again.

    `dataset` is a name, of ours or registered; `name` what the model is called in tables (the file's name). `latency`
    says what to time, if anything, on `threads` threads. BadInputError, in one line, for whatever cannot be used.
    """
    check_limit(limit)
    cores = threads or torch.get_num_threads()
    opened = open_foreign(Path(path), wanted, threads=cores, trust=trust)
    check_results(results)
    work = _Work(opened, dataset, places, results, limit, latency, cores, name or Path(path).name, command, progress)
    like = None if wanted is None else wanted.like
    makers: dict[Name, Callable[[], dict[str, Any]]] = {
        "model": work.model,
        "accuracy": work.accuracy,
        "counts": work.counts,
        "latency": lambda: work.latency_of(like),
    }
    store, finished = Store(results), Store(results).finished()
    for kind, identity in work.identities.items():
        if (kind_of(kind), key_of(identity)) not in finished:
            store.append(work.record(kind, identity, makers[kind]))
    keys = {kind: key_of(identity) for kind, identity in work.identities.items()}
    store.append(Asked(cell=work.cell, keys=keys, provenance=work.provenance()))
    return next(row for row in store.rows() if row.cell.id == work.cell.id)


@dataclass
class _Work:
    """One foreign model on one data set, and what its measurements share."""

    opened: Opened
    dataset: str
    places: Places
    results: Path
    limit: int | None
    latency: Latency | None
    threads: int
    name: str
    command: str
    progress: Progress
    files: dict[str, str] = field(default_factory=dict)

    @cached_property
    def cell(self) -> CellKey:
        facts = self.opened.model.facts
        cell = CellKey(
            id="", method=ELSEWHERE, variant=short_maker(facts.made_by), task=TASK, dataset=self.dataset,
            model=self.name.replace("/", "_"), bits=facts.bits, limit=self.limit,
        )  # fmt: skip
        return cell.asked()

    @cached_property
    def identities(self) -> dict[Name, Identity]:
        opened = self.opened
        return identities(
            self.cell, opened.model.facts, opened.preprocessing, self.places.datasets, self.latency, self.threads
        )

    @cached_property
    def data(self) -> Data:
        """The data set as the model wants it."""
        facts = self.opened.model.facts
        loaded = LoadedModel(self.name, self.opened.model, self.opened.preprocessing, facts.sha256)
        return load_task(TASK).open_data(
            self.dataset, loaded, self.places, limit=self.limit, seed=0, calibration=NO_CALIBRATION
        )

    def record(self, kind: Name, identity: Identity, make: Callable[[], dict[str, Any]]) -> Record:
        """A measurement, timed; warnings meant for users are kept with it."""
        self.files, begun = {}, time.perf_counter()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            found = make()
        said = [str(each.message) for each in told if issubclass(each.category, UserWarning)]
        return Record(
            kind=kind_of(kind),
            key=key_of(identity),
            identity=identity,
            cell=self.cell,
            status="done",
            fidelity="elsewhere",
            seconds={kind: round(time.perf_counter() - begun, 4)},
            files=self.files,
            warnings=list(dict.fromkeys([*said, *found.pop("warnings", [])])),
            provenance=self.provenance(),
            **found,
        )

    def provenance(self) -> Any:
        """Where a record that is finished now comes from."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        facts = {"finished": now, "threads": self.threads, "device": "cpu", "settings": devices.settings()}
        return provenance.collect(self.command).model_copy(update=facts)

    def model(self) -> dict[str, Any]:
        """The file, and what it says of itself."""
        model = self.opened.model
        facts = model.facts
        details = Details(
            made_by=facts.made_by,
            format=facts.format,
            file=facts.path.name,
            runtime=f"{facts.runtime} {facts.version}",
            classes=model.num_classes,
            batch=facts.batch,
            unknown=list(facts.unknown),
            operators={kind: dict(widths) for kind, widths in facts.operators.items()},
        )
        file = ModelFile(path=facts.path.name, sha256=facts.sha256, bytes=facts.bytes, header_bytes=0, kept=False)
        return {"model_file": file, "details": details, "warnings": list(facts.unknown)}

    def accuracy(self) -> dict[str, Any]:
        """Top-1 and top-5 accuracy with every sample's outcome."""
        key = key_of(self.identities["accuracy"])
        data = self.data
        found = measured(load_task(TASK), self.opened.model, data, self.progress)
        path = self.results / outcomes.FOLDER / f"{key[:16]}.npz"
        write_whole(path, outcomes.packed(found.outcomes, outcomes.samples_sha256(data.names)))
        if data.subset:
            subset = self.results / "artifacts" / key[:16] / f"subset-{key[:16]}.txt"
            write_whole(subset, data.subset.encode())
            self.files["subset"] = subset.relative_to(self.results).as_posix()
        kept = path.relative_to(self.results).as_posix()
        return {"metrics": found.metrics, "outcomes": kept, "output_sha256": found.output_sha256}

    def counts(self) -> dict[str, Any]:
        """Size, and operations where they could be counted; why not is said with the model."""
        facts = self.opened.model.facts
        operations: Operations | None = facts.operations
        return {"size": facts.size, "operations": operations, "warnings": list(facts.unknown)}

    def latency_of(self, like: str | None) -> dict[str, Any]:
        """Times of the model, beside FP32 of what it is like."""
        assert self.latency is not None
        rows, around = timed(self.opened.model, self.opened.preprocessing.size, like, self.latency, self.threads)
        return {"latency": rows, "latency_around": around}


def short_maker(made_by: str) -> str:
    """Who made a model, short and plain enough to stand in the id of a cell."""
    plain = re.sub(r"[^\w .+()-]", " ", re.sub(r"(\d+\.\d+(\.\d+)?)-\S+", r"\1", made_by))
    return " ".join(plain.replace("(", "").replace(")", "").split())[:60] or "unnamed"
