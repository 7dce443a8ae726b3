"""Tolerances by name: which names and numbers a site file and the command line take."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitq.benchmarks.gate.policy import Policy, policy_of
from vitq.benchmarks.plan.site import load_site
from vitq.benchmarks.plan.tolerances import COUNTS, NAMES, from_words
from vitq.errors import BadInputError


def site_of(folder: Path, text: str) -> dict[str, float]:
    file = folder / "vitq.toml"
    file.write_text(f"[gate]\n{text}\n")
    return load_site(file).gate


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_taken_from_both(name: str, tmp_path: Path) -> None:
    assert site_of(tmp_path, f"{name} = 2") == {name: 2.0} == from_words([f"{name}=2"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("top_1 = 1", "did you mean 'top1'"),
        ("packed = 1", "'packed_mb'"),
        ("latency = 0.9", "latency may differ by 1 or more"),
        ("top1 = -1", "top1 may differ by 0 or more"),
        ("top1 = nan", "top1 may differ"),
        ("top1 = inf", "top1 may differ"),
        ("top1 = true", "gate.top1"),
        ("top1 = 'x'", "gate.top1"),
    ],
)
def test_a_bad_line_of_the_site_file_is_one_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        site_of(tmp_path, text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["top1", "top1=", "top1=x", "top1=nan", "top_1=1", "=1", "latency=0.5", "top1=-1"])
def test_a_bad_word_is_one_line(word: str) -> None:
    with pytest.raises(BadInputError, match="--allow"):
        from_words([word])


@given(
    site=st.dictionaries(st.sampled_from(NAMES), st.floats(1, 50)),
    allow=st.dictionaries(st.sampled_from(NAMES), st.floats(1, 50)),
    tolerance=st.none() | st.floats(0, 50),
)
def test_the_command_line_wins(site: dict[str, float], allow: dict[str, float], tolerance: float | None) -> None:
    policy = policy_of(site, allow, tolerance=tolerance)
    over = {} if tolerance is None else {"accuracy": tolerance}
    wanted = {**site, **over, **allow}
    general = wanted.get("accuracy", 0.0)
    site_metric = site.get("miou", general) if tolerance is None else general
    assert policy.of_metric("miou") == allow.get("miou", site_metric)
    assert policy.slowdown == wanted.get("latency", Policy().slowdown)
    assert policy.stderrs == wanted.get("stderrs", Policy().stderrs)
    assert all(policy.of_count(name) == wanted.get(name, 0.0) for name in COUNTS)
    assert policy.of_count("a paper's own") == wanted.get("conventions", 0.0)
