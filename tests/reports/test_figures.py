"""The shipped figures are those of the sources, row by row, and every option that they name is declared."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from vitq.benchmarks.commands.declared_options import declared_options
from vitq.errors import BadInputError
from vitq.methods.cards import all_cards
from vitq.reports.figure import PACKAGES, load_figures
from vitq.reports.verdicts import compare

FOLDER = Path(__file__).resolve().parents[2] / "reports" / "figures"
COMPARATORS = ("fq_vit.csv", "ptq4vit.csv")
OWN_FILES = ("reruns.csv", "released_code_on_proxy.csv", *COMPARATORS)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def as_counter(rows: list[dict[str, str]], columns: list[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(row[c] for c in columns) for row in rows)


def test_papers_figures_equal_the_source_row_by_row(shared: Path) -> None:
    source = rows_of(shared / "papers" / "figures.csv")
    ours = [row for path in FOLDER.glob("*.csv") if path.name not in OWN_FILES for row in rows_of(path)]
    columns = list(source[0])
    assert as_counter(ours, columns) == as_counter(source, columns)


def test_rows_keep_the_order_of_the_source(shared: Path) -> None:
    source = [tuple(row.values()) for row in rows_of(shared / "papers" / "figures.csv")]
    for path in FOLDER.glob("*.csv"):
        if path.name not in OWN_FILES:
            places = [source.index(tuple(list(row.values())[:13])) for row in rows_of(path)]
            assert places == sorted(places), path.name


def test_comparators_figures_equal_the_source_row_by_row(shared: Path) -> None:
    source = rows_of(shared / "papers" / "comparators.csv")
    columns = list(source[0])
    ours = [tuple(row[c] for c in columns) for name in COMPARATORS for row in rows_of(FOLDER / name)]
    assert ours == [tuple(row.values()) for row in source]


def test_reruns_equal_the_source_row_by_row(shared: Path) -> None:
    source = rows_of(shared / "papers" / "reruns.csv")
    columns = list(source[0])
    ours = [tuple(row[c] for c in columns) for row in rows_of(FOLDER / "reruns.csv")]
    assert ours == [tuple(row.values()) for row in source]


def test_released_code_runs_equal_the_source_row_by_row(shared: Path) -> None:
    source = rows_of(shared / "papers" / "released_code_on_proxy.csv")
    names = {"method": "method", "w_bits": "w_bits", "a_bits": "a_bits", "calibration": "table", "metric": "metric"}
    names |= {"value": "value", "fp32": "fp_value", "note": "source"}
    ours = [tuple(row[names[c]] for c in source[0]) for row in rows_of(FOLDER / "released_code_on_proxy.csv")]
    assert ours == [tuple(row.values()) for row in source]


def test_disputed_ranges_are_what_the_reruns_say() -> None:
    reruns = rows_of(FOLDER / "reruns.csv")
    disputed = [f for f in load_figures() if f.disputed and f.file not in COMPARATORS]
    assert {(f.cell_method, f.model, f.bits) for f in disputed} == {
        ("repq_vit", "swin_base", "W4A4"),
        ("repq_vit", "mask_rcnn_swin_small", "W4A4"),
        *(("psaq_vit", model, bits) for model in ("deit_small", "swin_tiny") for bits in ("W4A8", "W8A8")),
    }
    for figure in disputed:
        key = (figure.method, figure.model, figure.metric, str(figure.w_bits), str(figure.a_bits))
        of_others = [r for r in reruns if (r["method"], r["model"], r["metric"], r["w_bits"], r["a_bits"]) == key]
        spreads = [float(row["note"].split()[-1]) if row["note"] else 0.0 for row in of_others]
        values = [float(row["value"]) for row in of_others]
        ends = [v + sign * s for v, s in zip(values, spreads, strict=True) for sign in (-1, 1)]
        assert (figure.disputed_low, figure.disputed_high) == pytest.approx((min(ends), max(ends)))
        assert figure.disputed_high is not None
        assert figure.disputed_high < figure.value - figure.tolerance or figure.model == "swin_tiny"


def test_disputed_rows_of_comparators_are_those_whose_reruns_its_sheet_names() -> None:
    found = {f.name: f.others for f in load_figures() if f.disputed and f.file in COMPARATORS}
    assert found == {
        "fq_vit[8/8/8]/vit_base/W8A8/top1 (README results (8/8/8))": "82.54",
        "base_ptq[Base PTQ]/vit_small_patch32/W8A8/top1 (README results (BasePTQ))": "74.852 to 74.856",
        "base_ptq[Base PTQ]/vit_small_patch32/W6A6/top1 (README results (BasePTQ))": "64.008 to 64.272",
    }


def test_a_figure_of_a_method_that_a_package_adds_says_which_until_it_is_installed() -> None:
    figures = [f for f in load_figures() if f.cell_method in PACKAGES]
    assert Counter(f.file for f in figures) == {"repq_vit.csv": 28, "fq_vit.csv": 48, "ptq4vit.csv": 66}
    for comparison in compare([], figures, {}):
        assert comparison.figure is not None
        package = PACKAGES[comparison.figure.cell_method]
        assert comparison.verdict == "not-run"
        assert comparison.reason.endswith(f"is not installed: package {package} adds it")
        assert (FOLDER.parents[1] / "examples" / package / "pyproject.toml").is_file()
    with_them = compare([], figures, {method: {} for method in PACKAGES})
    assert {c.reason for c in with_them} == {"no such cell"}


def test_every_figure_has_a_tolerance_with_a_reason_and_a_unique_name() -> None:
    figures = load_figures()
    assert len(figures) == 282 + 48 + 66
    assert all(f.tolerance_reason for f in figures)
    names = Counter((f.file, f.name, f.source) for f in figures)
    assert not [name for name, count in names.items() if count > 1]


def test_a_value_is_printed_with_its_tables_decimals() -> None:
    by_name = {(f.file, f.name): f.printed for f in load_figures()}
    assert by_name["repq_vit.csv", "repq_vit/deit_small/W6A6/top1 (Table 1)"] == "78.90"
    assert by_name["repq_vit.csv", "repq_vit/mask_rcnn_swin_tiny/W4A4/mask_ap (Table 2)"] == "36.0"
    assert by_name["i_vit.csv", "i_vit/deit_tiny/W8A8/model_size_mb (Table 1)"] == "5"


def test_a_rerun_takes_its_papers_fp32_value() -> None:
    found = {f.model: f.fp_value for f in load_figures() if f.evidence == "re-run" and f.metric == "top1"}
    assert found["swin_small"] == 83.2
    unread = {model for model, value in found.items() if value is None}
    assert unread == {"deit_tiny_distilled", "deit_small_distilled", "deit_base_distilled"}


def test_every_option_of_a_method_with_figures_is_declared() -> None:
    with_figures = {f.cell_method for f in load_figures()} & set(all_cards())
    assert {"fp32", "repq_vit", "psaq_vit"} <= with_figures
    known = declared_options()
    for name in sorted(with_figures):
        assert {each.effect for each in known[name].values()} <= {"row", "recipe"}
    for figure in load_figures():
        assert set(figure.options) <= set(known.get(figure.cell_method, figure.options)), figure.name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": "sixty"}, "line 2"),
        ({"metric": "top-1"}, "cannot be compared"),
        ({"tolerance_reason": ""}, "tolerance_reason"),
        ({"disputed_low": "3"}, "both ends"),
        ({"options": "{"}, "line 2"),
        ({"dataset": "cifar"}, "no known size"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path: Path, change: dict[str, str], words: str) -> None:
    row = rows_of(FOLDER / "psaq_vit_v2.csv")[0] | change
    with (tmp_path / "new.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    with pytest.raises(BadInputError, match=words) as error:
        load_figures(tmp_path)
    assert "new.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_figures_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no figures"):
        load_figures(tmp_path)
