"""PMQ's pictures from records as a run leaves them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitq.methods.pmq.options import Options
from vitq.record import CellKey, Metric, Provenance
from vitq.reports.pmq_plots import draw, short
from vitq.rows import Row

WIDTHS = (2, 3, 4, 6, 8)


def component(name: str, weights: int, bits: int) -> dict[str, Any]:
    by = {str(b): 2.0**-b * (1 + len(name)) for b in WIDTHS}
    rows = {"activation": by} | ({"weight": by} if weights else {})
    return {"name": name, "weights": weights, "inputs": 100, "macs": 10, "weight_bits": bits if weights else None,
            "activation_bits": bits, "sensitivity": rows}  # fmt: skip


def record(allocation: str, draw_number: int, top1: float, searched: bool) -> Row:
    uniform = [[b, 1e6 * b, 2.0**-b] for b in WIDTHS]
    problem = {"kind": "weights", "budget": 4e6, "smallest": 2_000_000, "largest": 8_000_000}
    if searched:
        frontier = [[1e6 * (2 + i / 10), 0.2 * 2.0 ** (-i / 10)] for i in range(60)]
        problem |= {
            "chosen": [3.9e6, 0.05],
            "uniform": uniform,
            "frontier": frontier,
            "frontier_size": 60,
            "slack": 0.0,
        }
    names = ["patch_embed.proj", *(f"blocks.{i}.attn.{leaf}" for i in range(3) for leaf in ("qkv", "qk", "av", "proj"))]
    options = Options(allocation=allocation, draw=draw_number, perturbation="relative")  # type: ignore[arg-type]
    details = {
        "options": asdict(options) | {"widths": list(WIDTHS)},
        "sensitivity_by": "pareto" if searched else None,
        "components": [component(n, 0 if n.endswith(("qk", "av")) else 500, 4) for n in names],
        "problems": [problem],
        "average_bits": {"weights": 4.0, "activations": 3.9},
        "gbitops": 1.0,
        "patches": None,
        "search_seconds": {"pareto": 1.0, "frontier": 0.5, "leave_one_out": 60.0} if searched else {},
    }
    key = CellKey(id=f"pmq:{allocation}{draw_number}/classification/m/W4A4/seed0", method="pmq", task="classification",
                  dataset="digits", model="m", bits="W4A4")  # fmt: skip
    return Row(cell=key, status="done", details=details,
                  metrics={"top1": Metric(value=top1, n=100, stderr=2.0)}, provenance=Provenance(vitq="0"))  # fmt: skip


def test_every_picture_is_drawn_and_says_what_it_shows(tmp_path: Path) -> None:
    records = [record("pareto", 0, 80, True), record("uniform", 0, 60, False)]
    records += [record("random", d, 40 + d, False) for d in range(4)]
    pictures = draw(records, tmp_path, tmp_path)
    assert len(pictures) == 4
    assert all(p.file.stat().st_size > 5000 and p.file.name.startswith("pmq_plots") for p in pictures)
    assert len({p.file for p in pictures}) == 4
    assert "60 points, exact" in pictures[1].caption
    assert "PMQ 1.50 s, leave-one-out 60.0 s (40 times)" in pictures[3].caption


def test_widths_and_variants_of_a_model_share_its_pictures(tmp_path: Path) -> None:
    wide = record("pareto", 0, 90, True)
    wide = wide.model_copy(
        update={"cell": wide.cell.model_copy(update={"id": "wide", "bits": "W8A8", "variant": "a[b]"})}
    )
    pictures = draw([record("pareto", 0, 80, True), wide], tmp_path, tmp_path)
    assert [p.file.name for p in pictures] == [
        f"pmq_plots_{what}_digits_m.png" for what in ("sensitivity", "frontier", "bits")
    ]
    assert "W4A4, W8A8 a[b]" in pictures[1].caption
    assert [row["run"] for row in pictures[1].rows] == ["W4A4", "W8A8 a[b]"]
    assert pictures[2].rows[0]["W8A8 a[b] (weights / activations)"] == "4 / 4"


def test_nothing_searched_nothing_drawn(tmp_path: Path) -> None:
    assert draw([record("uniform", 0, 60, False)], tmp_path, tmp_path) == []


def test_short_names() -> None:
    assert short("blocks.3.attn.qkv") == "3 qkv"
    assert short("layers.1.blocks.0.mlp.fc1") == "1.0 fc1"
    assert short("patch_embed.proj") == "patch_embed.proj"
    assert short("head") == "head"
