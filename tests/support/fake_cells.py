"""A worker that only waits and writes, and the orders it takes; imported by worker processes too."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from vitq.benchmarks.plan.identity import Identities
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.run.messages import Finished, Link, Order
from vitq.record import CellKey, LatencyRow, Operations, Provenance, Record, Size, key_of


class Quiet:
    def matrix(self, done, total):
        pass

    def phase(self, cell_id, phase, done, total):
        pass

    def ended(self, order, records):
        pass


def order(name: str, folder: Path) -> Order:
    """A cell that asks for counts alone."""
    cell = CellKey(id=name, method="fp32", task="classification", dataset="digits", model="digits_vit", bits="FP32")
    return Order(cell, Identities({"counts": {"name": name}}), Site(), folder, Provenance(vitq="0"))


def work(order: Order, link: Link) -> Finished:
    """Stands for a cell: says which cell it starts, waits, and gives a record."""
    with (order.folder / "started").open("a") as file:
        file.write(order.cell.id + "\n")
    link.phase("wait", 0, 1)
    time.sleep(0.01)
    if order.cell.id.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    bad = "image x.jpg is truncated" if order.cell.id.startswith("bad") else None
    link.record(counted(order, bad))
    return Finished(order, bad_input=bad)


def on_a_card(order: Order, link: Link) -> Finished:
    """Says which GPU it sees, and holds it until all of the first eight have one."""
    seen = order.folder / "seen"
    seen.mkdir(exist_ok=True)
    (seen / order.cell.id).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    while len(list(seen.iterdir())) < 8:
        time.sleep(0.01)
    link.record(counted(order))
    return Finished(order)


def timed_order(name: str, folder: Path) -> Order:
    """A cell that asks for counts and for its latency."""
    one = order(name, folder)
    return replace(one, identities=Identities({**one.identities.own, "latency": {"name": name}}))


def timed(order: Order, link: Link) -> Finished:
    """Stands for a cell: says on which machine of a made cluster its timing begins and ends."""
    if "counts" in order.wanted:
        link.record(counted(order))
        return Finished(order)
    for word in ("begin", "end"):
        with (order.folder / "timing").open("a") as file:
            file.write(f"{word} {os.environ['RAY_RAYLET_PID']}\n")
        time.sleep(0.2)
    identity = order.identities.own["latency"]
    row = LatencyRow(exec="fp32", batch=1, threads=1, device="cpu", median_ms=1, p90_ms=1, samples_ms=[1])
    link.record(
        Record(
            kind="latency", key=key_of(identity), identity=identity, cell=order.cell, status="done", latency=[row],
            provenance=order.provenance,
        )
    )  # fmt: skip
    return Finished(order)


def counted(order: Order, bad: str | None = None) -> Record:
    """A record of counts, or of a failure."""
    identity = order.identities.own["counts"]
    held = {"size": Size(params=1, fp32_mb=4e-6, packed_mb=1e-6), "operations": Operations(macs=1, bitops=64, ops=1)}
    return Record(
        kind="counts", key=key_of(identity), identity=identity, cell=order.cell, status="failed" if bad else "done",
        error=bad, provenance=order.provenance, **({} if bad else held),
    )  # fmt: skip
