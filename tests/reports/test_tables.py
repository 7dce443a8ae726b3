"""Tables as text: a golden page, plain numbers as CSV, and no speed-up from a fake-quant time."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from option_facts import declared_by_hand

from vitq.reports import row_view, tables
from vitq.reports.compare_tables import compare_table
from vitq.reports.layout import NOTHING
from vitq.reports.run_tables import ablation_table, seeds_table
from vitq.reports.verdicts import compare as compare_by
from vitq.rows import Row

Make = Callable[..., Any]
compare = partial(compare_by, options=declared_by_hand())
GOLDEN = Path(__file__).with_name("golden_tables.md")


@pytest.fixture
def records(record: Make, latency: Make) -> list[Row]:
    options = {**record().cell.options, "layernorm": "channel"}
    return [
        record(69.5, seed=1),
        record(68.5, seed=0, latency=[latency("fp32", 40.0), latency("fake-quant", 61.0)]),
        record(70.25, options=options, variant="channel"),
        record(79.85, method="fp32", bits="FP32", fidelity="baseline"),
        record(None, method="pmq", status="failed", error="RuntimeError: a | b\ntrace", fidelity="reconstruction"),
        record(75.0, method="i_vit", bits="W8A8", latency=[latency("fp32", 40.0), latency("integer-only:x", 20.0)]),
    ]


def test_tables_are_those_of_the_golden_page(records: list[Row], figure: Make) -> None:
    figures = [
        figure(),
        figure(value=70.28, options={"layernorm": "channel"}, variant="channelwise"),
        figure(model="x"),
    ]
    page = "\n\n".join(
        [
            tables.results_table(records),
            compare_table(compare(records, figures)),
            ablation_table(records),
            seeds_table(records),
        ]
    )
    assert page + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_order_does_not_depend_on_the_order_of_records(records: list[Row]) -> None:
    assert tables.results_table(records) == tables.results_table(records[::-1])
    assert ablation_table(records) == ablation_table(records[::-1])


def test_csv_holds_plain_numbers(records: list[Row]) -> None:
    rows = list(csv.DictReader(io.StringIO(tables.results_table(records, "csv"))))
    assert len(rows) == len(records)
    repq = next(r for r in rows if r["id"].endswith("W4A4/seed0") and r["method"] == "repq_vit" and not r["variant"])
    assert (float(repq["top1"]), int(repq["top1_n"]), float(repq["packed_mb"])) == (68.5, 50_000, 11.5)
    assert float(repq["median_ms[fake-quant]"]) == 61.0


def test_a_fake_quant_time_is_never_a_speed_up(records: list[Row]) -> None:
    texts = {r.cell.method + r.cell.variant + str(r.cell.seed): tables.latency_text(r) for r in records}
    assert "(" not in texts["repq_vit0"]
    assert "integer-only:x 20.0 (2.00x)" in texts["i_vit0"]


def test_reconstructions_are_marked_wherever_they_are_shown(record: Make, figure: Make) -> None:
    made = [record(51.0 + s, method="pmq", fidelity="reconstruction", variant=v, seed=s) for v in "ab" for s in (0, 1)]
    row = figure(method="pmq", cell_method="pmq")
    shown = [tables.results_table(made), compare_table(compare(made, [row]))]
    shown += [ablation_table(made), seeds_table(made)]
    assert all("pmq†" in text for text in shown)
    assert all(tables.RECONSTRUCTION in text for text in [*shown[:2], row_view.row_view(made[0])])


def test_compare_csv_has_every_figure(record: Make, figure: Make) -> None:
    comparisons = compare([record()], [figure(), figure(model="deit_tiny")])
    rows = list(csv.DictReader(io.StringIO(compare_table(comparisons, "csv"))))
    assert [r["verdict"] for r in rows] == ["reproduced", "not-run"]
    assert "not-run" not in compare_table(comparisons, "plain").split("Verdicts:")[0]
    assert "deit_tiny" in compare_table(comparisons, "plain", everything=True)


def test_layers_are_read_from_the_records_file(record: Make, tmp_path: Path) -> None:
    (tmp_path / "layers.json").write_text(json.dumps([{"path": "head", "macs": 10, "left_bits": 8.0}]))
    assert "head" in row_view.layers_table(record(files={"layers": "layers.json"}), tmp_path, "plain")


def test_a_row_view_names_everything(record: Make, latency: Make) -> None:
    made = record(warnings=["look out"], seconds={"quantize": 1.5}, latency=[latency("fp32", 40.0)])
    text = row_view.row_view(made)
    for word in ("look out", "quantize", "69.00 ± 0.21", "fp32 40.0", made.key, "log_sqrt2", "deit_small"):
        assert word in text


def test_nothing_is_said_to_be_nothing() -> None:
    assert tables.results_table([]) == NOTHING
    assert ablation_table([]) == NOTHING
    assert seeds_table([]) == NOTHING


def test_an_unknown_format_is_refused(record: Make) -> None:
    with pytest.raises(ValueError, match="plain, md, csv, json"):
        tables.results_table([record()], "html")  # type: ignore[arg-type]


def test_tables_need_neither_matplotlib_nor_torch() -> None:
    code = "import sys, vitq.reports.tables; assert not {'matplotlib', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
