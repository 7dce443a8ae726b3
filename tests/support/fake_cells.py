"""A worker that only waits and writes, and the orders it takes; imported by worker processes too."""

import os
import signal
import time
from pathlib import Path

from vitq.benchmarks.order import Finished, Order
from vitq.benchmarks.record import CellKey, Provenance, Record
from vitq.benchmarks.site import Site


class Quiet:
    def matrix(self, done, total):
        pass

    def phase(self, cell_id, phase, done, total):
        pass

    def ended(self, record):
        pass


def order(name: str, folder: Path) -> Order:
    cell = CellKey(id=name, method="fp32", task="classification", dataset="digits", model="digits_vit", bits="FP32")
    return Order(cell, f"{name:0>16}", Site(), folder, Provenance(vitq="0"))


def work(order: Order, send) -> Finished:
    """Stands for a cell: says which cell it starts, waits, and gives a record."""
    with (order.folder / "started").open("a") as file:
        file.write(order.cell.id + "\n")
    send("wait", 0, 1)
    time.sleep(0.01)
    if order.cell.id.startswith("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    bad = "image x.jpg is truncated" if order.cell.id.startswith("bad") else None
    status = "failed" if bad else "done"
    record = Record(
        fingerprint=order.fingerprint, cell=order.cell, status=status, error=bad, provenance=order.provenance
    )
    return Finished(order, record, bad_input=bad)
