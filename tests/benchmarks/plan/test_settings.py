"""`--set`: options typed as they are declared, other options other cells, and what is wrong in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import vitq_here
from hypothesis import given
from hypothesis import strategies as st

from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.settings import read_settings, typed, with_settings
from vitq.benchmarks.plan.suite import MethodEntry, load_suite
from vitq.methods.cards import all_cards
from vitq.options import fault
from vitq.record import CellKey

EVERY = [(method, option) for method in all_cards() for option in all_cards()[method].options]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def cells(*settings: str) -> dict[str, CellKey]:
    suite = load_suite("smoke")
    methods = list(dict.fromkeys(entry.method for entry in suite.methods))
    return {cell.id: cell for cell in expand(with_settings(suite, read_settings(settings, methods)))[0]}


@pytest.mark.parametrize(("method", "option"), EVERY)
def test_every_option_reads_its_own_values_back(method: str, option: str) -> None:
    known = all_cards()[method].options[option]
    for value in {
        repr(v): v for v in (known.recorded, *((known.choices or ()) if known.item is None else ()))
    }.values():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        assert typed(known, text) == value
        assert fault({option: known}, option, typed(known, text)) is None


@given(st.sampled_from(EVERY), st.text(max_size=20))
def test_any_text_is_a_value_that_suits_or_a_line(which: tuple[str, str], text: str) -> None:
    method, option = which
    known = all_cards()[method].options
    value = typed(known[option], text)
    if fault(known, option, value) is None:
        entry = MethodEntry(method=method, options={option: value})
        assert entry.options == {option: value}


def test_other_options_are_other_cells_with_what_was_set_in_the_id() -> None:
    before, after = cells(), cells("psaq_vit.iterations=7")
    new = set(after) - set(before)
    assert "psaq_vit[iterations=7]/classification/digits/digits_vit/W8A8/seed0" in new
    assert "psaq_vit[gaussian-iterations=7]/classification/digits/digits_vit/W8A8/seed0" in new
    assert all(after[name].options["iterations"] == 7 for name in new)
    assert {n: c for n, c in before.items() if c.method != "psaq_vit"} == {
        n: c for n, c in after.items() if c.method != "psaq_vit"
    }


def test_what_is_set_to_what_it_is_changes_nothing() -> None:
    assert cells("repq_vit.layernorm=reparam").keys() - cells().keys() == {
        f"repq_vit[{name}-layernorm=reparam]/classification/digits/{model}/W4A4/seed0"
        for name in ("channel", "layer")
        for model in ("digits_vit", "digits_swin")
    }


def test_the_last_of_two_counts() -> None:
    assert cells("psaq_vit.iterations=7", "psaq_vit.iterations=9") == cells("psaq_vit.iterations=9")


def test_a_long_or_odd_value_is_told_apart_by_a_digest() -> None:
    suite = load_suite("smoke")
    long = read_settings(
        [f"psaq_vit.{name}={1 + i / 7}" for i, name in enumerate(("flip", "warmup", "tv_low"))], ["psaq_vit"]
    )
    (first, *_) = [e for e in with_settings(suite, long).methods if e.method == "psaq_vit"]
    assert len(first.variant) <= 80
    MethodEntry.model_validate(first.model_dump())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["repq_vit.layrnorm=layer"], "did you mean 'layernorm'?"),
        (["repq_vit.layernorm=laye"], "did you mean 'layer'?"),
        (["repq.layernorm=layer"], "did you mean 'repq_vit'"),
        (["psaq_vit.iterations=many"], "psaq_vit.iterations is 'many'; it must be a whole number"),
        (["psaq_vit.iterations=1.5"], "whole number"),
        (["psaq_vit.lr=inf"], "finite"),
        (["psaq_vit_v2.student_training=maybe"], "true or false"),
        (["layernorm=layer"], "write method.option=value"),
        (["minmax.x=1"], "minmax has no options"),
        (["repq_vit.layernorm"], "is no setting"),
        (["=layer"], "is no setting"),
        ([""], "is no setting"),
    ],
)
def test_a_wrong_setting_is_one_line_and_nothing_runs(words: list[str], says: str) -> None:
    vitq_here("run", "smoke", *(part for word in words for part in ("--set", word))).refused("--set", says)
    assert list(Path().iterdir()) == []
