"""A detector goes the whole way: plan, every method on its backbone, counts, accuracy, latency, row, tables, report.

Batches are lists of images of different sizes, outputs dictionaries with a number of boxes that differs, and the head
runs once a box or never: nothing but the task may look inside either.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import detector
import detector_task
import pytest
import torch
from detector_task import IMAGES, MODEL, NAME, TASK
from fake_cells import Quiet

import vitq
from vitq.benchmarks.commands.compare import report
from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.orders import plan
from vitq.benchmarks.plan.scopes import check_scopes
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import load_suite
from vitq.benchmarks.run.executors import LocalExecutor
from vitq.benchmarks.run.messages import Order
from vitq.benchmarks.run.runner import Summary, run
from vitq.benchmarks.run.store import Store, read_rows
from vitq.errors import BadInputError
from vitq.methods.cards import all_cards
from vitq.reports.row_view import row_view
from vitq.reports.tables import results_table
from vitq.rows import Row

SHORT: dict[str, tuple[str, dict[str, Any]]] = {
    "fp32": ("FP32", {}),
    "psaq_vit": ("W8A8", {"iterations": 2, "images": 2}),
    "psaq_vit_v2": ("W8A8", {"images": 2, "image_steps": 1, "training_steps": 1, "cycles": 1}),
    "pmq": ("W4A4", {"frontier_points": 64}),
    "i_vit": ("W8A8", {"epochs": 1}),
    "binary_vit": ("W1A1", {"epochs": 1}),
}
"""Widths and options of a short run; W8A8 with the method's own options elsewhere."""


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    detector_task.register(monkeypatch.setitem)


def planned(folder: Path, method: str, **entry: Any) -> list[Order]:
    """The order of one cell on the detector's backbone."""
    bits, options = SHORT.get(method, ("W8A8", {}))
    (folder / "made.yaml").write_text(
        json.dumps({
            "name": "made", "bits": [bits], "methods": [{"method": method, "options": options}],
            "tasks": [{"task": NAME, "dataset": IMAGES, "models": [MODEL], "scope": "backbone", **entry}],
            "latency": {"batch": 2, "runs": 3, "warmup": 0, "threads": 1}, "threads": 1,
            "calibration": {"images": 6, "batch": 3},
        })
    )  # fmt: skip
    suite = load_suite(str(folder / "made.yaml"))
    weights = folder / "weights.safetensors"
    site = Site(weights={MODEL: weights if weights.exists() else detector_task.write_weights(weights)})
    cells, refused = expand(suite)
    assert not refused
    check_scopes(cells)
    return plan(suite, cells, site, folder, device="cpu", command="test")


def driven(orders: list[Order], folder: Path) -> Summary:
    return run(orders, Store(folder), LocalExecutor(1, work=detector_task.work), Quiet())


def row_of(folder: Path) -> Row:
    (row,) = read_rows(folder)
    return row


@pytest.mark.parametrize("method", sorted(all_cards()))
def test_every_method_goes_the_whole_way_on_the_backbone_of_a_detector(method: str, tmp_path: Path) -> None:
    orders = planned(tmp_path, method)
    summary, row = driven(orders, tmp_path), row_of(tmp_path)
    assert (row.status, summary.exit_code) == ("done", 0), row.error
    scope = "model" if method == "fp32" else "backbone"
    assert {identity["scope"] for kind, identity in row.identity.items() if kind != "latency"} == {scope}
    assert row.cell.id.endswith("/scope-backbone") == (method != "fp32")
    assert row.metrics["box_ap"].n == row.fp32["box_ap"].n == 7
    _counted(row, tmp_path)
    _saved(row, tmp_path)
    assert row.latency[0].exec == "fp32"
    assert all(len(timed.samples_ms) == 3 and timed.batch == 2 for timed in row.latency)
    _shown(row, tmp_path)
    again = driven(planned(tmp_path, method), tmp_path)
    assert (again.resumed, sum(again.statuses.values())) == (1, 0)


def _counted(row: Row, folder: Path) -> None:
    """Widths are those of the backbone alone, and the head's products are counted once a proposal."""
    assert row.size is not None
    assert row.operations is not None
    layers = {layer["path"]: layer for layer in json.loads((folder / row.files["layers"]).read_text())}
    assert {path.partition(".")[0] for path in layers} <= {"backbone", "neck", "head"}
    assert layers["head"]["macs"] == detector.META_PROPOSALS * 8 * (4 + detector.CLASSES)
    assert layers["neck"]["macs"] == 16 * 32 * 8 * 9
    quantized = [path for path, layer in layers.items() if layer["macs"] and layer["right_bits"] < 32]
    assert all(path.startswith("backbone.") for path in quantized)
    assert bool(quantized) == (row.cell.method != "fp32")
    assert sum(layer["macs"] for layer in layers.values()) == row.operations.macs
    if row.cell.method != "fp32":
        assert row.size.packed_mb < row.size.fp32_mb


def _saved(row: Row, folder: Path) -> None:
    """The file gives back the whole detector: its backbone quantized, all else as it was, the same output."""
    assert row.model_file is not None
    model, fp32 = vitq.load(folder / row.model_file.path), detector.make_detector()
    for name in ("neck", "head"):
        left, right = model.get_submodule(name), fp32.get_submodule(name)
        assert type(left) is type(right)
        assert all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        output = TASK.forward(model, next(detector_task.DATA.open(None, None, None).validation()))
    torch.set_num_threads(threads)
    assert TASK.digest(output) == row.output_sha256


def _shown(row: Row, folder: Path) -> None:
    name = row.cell.id.partition("/")[2]  # a reconstruction's method is marked
    assert name in results_table([row], "plain")
    assert row.cell.scope in row_view(row)
    assert report(str(folder / "made.yaml"), folder, None, None) == 0
    assert name in (folder / "report" / "report.md").read_text()


def test_a_scope_that_names_no_module_is_one_line_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no module 'backbne'.* backbone, neck, head") as error:
        planned(tmp_path, "minmax", scope="backbne")
    assert "\n" not in str(error.value)


def test_the_scope_is_part_of_what_decides_and_the_whole_of_a_model_is_another_cell(tmp_path: Path) -> None:
    (part,), (whole,) = planned(tmp_path, "minmax"), planned(tmp_path, "minmax", scope="model")
    assert part.cell.id == f"{whole.cell.id}/scope-backbone"
    assert all(part.identities.keys[kind] != key for kind, key in whole.identities.keys.items())
    assert part.identities.fp32_key == whole.identities.fp32_key
