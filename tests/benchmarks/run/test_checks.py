"""`verify` checks in a process made as a cell's is, so that what breaks only there is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_places import BrokenElsewhere

from vitq.benchmarks.run.checks import Request, in_cells_process
from vitq.datasets.base import Check
from vitq.tasks.places import Places


def request(places: Places, dataset: str = "digits") -> Request:
    return Request("classification", ("digits_vit",), dataset, places, 16, {}, 1)


def check(places: Places, dataset: str = "digits") -> list[Check]:
    return in_cells_process(request(places, dataset), lambda phase, done, total: None)


@pytest.mark.parametrize(("how", "word"), [("raise", "AttributeError: Can't pickle"), ("die", "killed by signal 9")])
def test_what_breaks_only_in_a_cells_process_is_found(how: str, word: str) -> None:
    places = BrokenElsewhere(hub=False, how=how)
    assert places.workers is None, "here all is well"
    (found,) = check(places)
    assert not found.ok
    assert word in found.message
    assert "\n" not in found.message


def test_good_data_pass_and_progress_is_told() -> None:
    told: list[str] = []
    checks = in_cells_process(request(Places(hub=False)), lambda phase, done, total: told.append(phase))
    assert all(one.ok for one in checks)
    assert "evaluate" in told


def test_a_folder_that_is_not_there_is_a_check_that_fails(tmp_path: Path) -> None:
    places = Places(datasets={"imagenet-proxy": tmp_path / "gone"}, hub=False)
    assert not any(one.ok for one in check(places, "imagenet-proxy") if "weights" not in one.name)
