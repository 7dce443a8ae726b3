"""What the command line does when it is not told: it asks, or reads what is there, and starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import vitq_here

from vitq.benchmarks.plan.suite import shipped_suites


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITQ_SITE", raising=False)


def test_a_bare_run_lists_the_suites_with_their_cost_and_starts_nothing() -> None:
    said = vitq_here("run")
    said.refused("name what to run", "vitq run smoke", "--model")
    for name in shipped_suites():
        assert any(line.startswith(f"{name} ") for line in said.out.splitlines())
    assert "estimated time" in said.out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [("compare",), ("report",), ("show", "x"), ("gate", "--baseline", "b"), ("clean",)],
)
def test_reading_takes_smoke_only_where_it_was_run(words: tuple[str, ...]) -> None:
    vitq_here(*words).refused("name a suite that was run", "smoke")
    assert list(Path().iterdir()) == []


def test_bare_verify_asks_too() -> None:
    vitq_here("verify").refused("vitq verify smoke")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "methods", "nosuch*"], "no name among the methods fits 'nosuch*'"),
        (["list", "methods", "repq_vitt"], "did you mean 'repq_vit'"),
        (["list", "methods", "a", "b"], "one pattern"),
        (["list", "methods", "--all"], "--all"),
        (["list", "methods", "-k", "x"], "-k picks cells"),
        (["list", "models", "nosuchmodelatall*"], "no name among the models"),
        (["list", "cells", "smoke", "nosuch*"], "no cell of suite smoke matches 'nosuch*'"),
        (["list", "cells", "smoke", "a", "b"], "a suite and a pattern"),
        (["list", "cells", "smok"], "did you mean 'smoke'"),
    ],
)
def test_a_list_of_nothing_is_a_line(words: list[str], says: str) -> None:
    vitq_here(*words).refused(says)


def test_globs_list_what_fits_and_timm_s_names_where_none_of_ours_does() -> None:
    assert "repq_vit" in vitq_here("list", "methods", "REPQ*").out
    assert "minmax" not in vitq_here("list", "methods", "repq*").out
    ours = vitq_here("list", "models", "vit_tiny*").out
    assert "vit_tiny_patch16_224" in ours
    assert "timm's" not in ours
    assert "levit_128" in vitq_here("list", "models", "levit*").out
    both = vitq_here("list", "models", "vit_tiny*", "--all").out
    assert "vit_tiny_patch16_224 " in both
    assert "vit_tiny_patch16_384" in both
    assert vitq_here("list", "cells", "minmax*").out == vitq_here("list", "cells", "smoke", "minmax*").out
