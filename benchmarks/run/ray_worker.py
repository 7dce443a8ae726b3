"""What a Ray worker does with an order: see that its machine has the driver's inputs, and run the cell beside itself.

The cell runs in a process that is forked here as `LocalExecutor` forks it, so that it computes under Ray exactly as it
does without; a Ray worker that is killed takes it along. Ray itself is not needed to read this module.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitq.benchmarks.plan.identity import Surroundings, describe_change, identify
from vitq.benchmarks.plan.site import Site, load_site
from vitq.benchmarks.plan.suite import Measurement
from vitq.benchmarks.run.executors import VISIBLE, LocalExecutor, Work
from vitq.benchmarks.run.failures import failed
from vitq.benchmarks.run.messages import Died, Event, Finished, Measured, Order, Progressed
from vitq.benchmarks.run.provenance import collect, machine_id
from vitq.benchmarks.run.shipping import Files, named_by, sees, write_all
from vitq.datasets import registry as datasets
from vitq.errors import BadInputError
from vitq.record import Identity, Name, in_order, kind_of
from vitq.tasks import names

POLL_SECONDS = 1.0
PROGRESS_SECONDS = 1.0
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Sent:
    """What every cell of a run is sent with.

    Attributes:
        site: the site file as `--site` names it on the worker's machine; None for the worker's own, as without Ray.
        trust: whether `--trust` was given.
        preload: modules that the cells of the run import.
        threads: the driver's OMP_NUM_THREADS, which Ray sets for its workers; None where it has none.
        ship: whether the results folder is not seen from everywhere, so that files go with orders and records.
        work: stands for a real cell, whose inputs are then not looked at.
    """

    site: Path | None = None
    trust: bool = False
    preload: tuple[str, ...] = ()
    threads: str | None = None
    ship: bool = False
    work: Work | None = None


@dataclass(frozen=True)
class Said:
    """An event without its order, which the driver knows, and the files that its record names where they are sent."""

    event: Any
    files: Files


def look(mark: Path | None) -> tuple[str, bool]:
    """What the driver asks of a machine: its kind, and whether it sees the results folder."""
    return machine_id(), mark is not None and sees(mark)


def serve(order: Order, files: Files, sent: Sent) -> Iterator[Said]:
    """Do an order; all that happens is said, and that its process died as well."""
    _as_without_ray(sent)
    try:
        with _folder(order, files, sent) as folder:
            here = replace(order, folder=folder)
            if sent.work is None:
                here = on_this_machine(here, load_site(sent.site).trusting(sent.trust))
            for event in _events(here, sent):
                kept = named_by(event.record, folder) if sent.ship and isinstance(event, Measured) else {}
                yield Said(replace(event, order=None), kept)  # type: ignore[arg-type]
    except BadInputError as error:
        wrong = f"on machine {platform.node()}: {error}"
        yield Said(Measured(None, failed(order, _first(order), wrong)), {})  # type: ignore[arg-type]
        yield Said(Finished(None, bad_input=wrong), {})  # type: ignore[arg-type]


def _first(order: Order) -> Name:
    return next(iter(in_order(order.wanted or order.identities.own)))


def _as_without_ray(sent: Sent) -> None:
    """Undo what Ray changes of a process, as far as a cell that is forked from it would notice."""
    if sent.threads is None:
        os.environ.pop(THREADS, None)
    else:
        os.environ[THREADS] = sent.threads
    vars(sys.modules["__main__"]).pop("__file__", None)  # Ray's own script, which each cell's process would run again


@contextmanager
def _folder(order: Order, files: Files, sent: Sent) -> Iterator[Path]:
    """The results folder where this machine sees it; else one that is gone when the cell is done."""
    if not sent.ship:
        yield order.folder
        return
    with tempfile.TemporaryDirectory(prefix="vitq-cell-") as name:
        write_all(files, Path(name))
        yield Path(name)


def _events(order: Order, sent: Sent) -> Iterator[Event]:
    """What the cell's process tells, progress once a second."""
    cards = [os.environ[VISIBLE]] if order.device != "cpu" and os.environ.get(VISIBLE) else []
    executor = LocalExecutor(1, work=sent.work, preload=sent.preload or ("json",), cards=cards)
    last: tuple[str, float] = ("", 0.0)
    try:
        executor.submit(order)
        while True:
            for event in executor.events(POLL_SECONDS):
                if isinstance(event, Progressed):
                    if event.phase == last[0] and time.monotonic() - last[1] < PROGRESS_SECONDS:
                        continue
                    last = (event.phase, time.monotonic())
                yield event
                if isinstance(event, (Finished, Died)):
                    return
    finally:
        executor.close()


def on_this_machine(order: Order, site: Site) -> Order:
    """The order with this machine's places and provenance.

    BadInputError where data, weights, code or packages here are not those of the driver, with the parts that differ.
    """
    names.register(order.models)
    datasets.register(order.datasets)
    site = _with_given(site, order)
    found = identify(order.cell, _surroundings(order, site))
    differ: dict[str, str] = {}
    for name in order.wanted or order.identities.own:
        differ |= _differing(order.identities.own[name], found.own.get(name, {}))
    if order.fp32_wanted:
        differ |= _differing(order.identities.fp32 or {}, found.fp32 or {})
    if differ:
        said = ", ".join(differ.values())
        raise BadInputError(f"what decides this cell is not the driver's here: {said}; let both have the same")
    return replace(order, site=site, provenance=collect(order.provenance.command))


def _with_given(site: Site, order: Order) -> Site:
    """The site with places of what the driver's user named by its path: a checkpoint, a folder, a file of models."""
    models, data = ({each.name for each in given} for given in (order.models, order.datasets))
    weights = {name: path for name, path in order.site.weights.items() if name in models}
    folders = {name: path for name, path in order.site.datasets.items() if name in data}
    places = {"weights": {**weights, **site.weights}, "datasets": {**folders, **site.datasets}}
    return site.model_copy(update=places)


def _differing(theirs: Identity, ours: Identity) -> dict[str, str]:
    """By part that is of content, in words what it is there and here; keys of models follow from the others."""
    parts = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name) and name != "model"]
    return {name: describe_change(theirs, ours, [name]) for name in parts}


def _surroundings(order: Order, site: Site) -> Surroundings:
    kinds: Mapping[str, Measurement] = {"accuracy": "accuracy", "counts": "counts", "latency": "latency"}
    own = {kind_of(name) for name in order.identities.own}
    measure = tuple(word for kind, word in kinds.items() if kind in own)
    return Surroundings(site.places(), order.device, order.latency, order.latency_threads, True, measure)
