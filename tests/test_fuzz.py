"""2,000 damaged inputs of every kind that is read: each is read, or refused in one line; nothing else is raised."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import damaged, replaced
from records import valid_record_lines
from safetensors.torch import save
from torch import nn

from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.site import load_site
from vitq.benchmarks.plan.suite import load_suite
from vitq.benchmarks.run.store import parse_records
from vitq.errors import BadInputError
from vitq.reports.row_view import row_view
from vitq.reports.tables import results_table
from vitq.rows import join
from vitq.tasks import weights
from vitq.tasks.checkpoints import read

SUITE = b"""name: tiny
description: a suite
tasks:
  - task: classification
    dataset: digits
    models: [digits_vit, digits_swin]
bits: [W8A8, W4A4]
seeds: &s [0, 1]
calibration: {images: 32, batch: 32, list: seeded, augment: full}
latency: {batch: 8, runs: 10, warmup: 2, threads: 1}
threads: 1
methods:
  - {method: fp32, bits: [FP32]}
  - minmax
  - {method: psaq_vit, variant: a, options: {lr: 1.0e-5, iterations: 3, calibration: real}, seeds: *s}
  - {method: pmq, variant: b, options: {widths: [2, 8], patch_wise: true, budget: 4.5}, models: [digits_vit]}
"""
SITE = b"""results = "results"
hub = true
threads = 1
workers = 0
[datasets]
imagenet-1k = "data/imagenet"
"imagenet-proxy" = "/data/proxy"
[weights]
folder = "weights"
vit_tiny_patch16_224 = "~/vit.safetensors"
"""


def times(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


@contextmanager
def one_line() -> Iterator[None]:
    """Nothing but BadInputError passes, and that with one line of visible text."""
    try:
        yield
    except BadInputError as error:
        said = str(error).splitlines()
        if len(said) != 1 or not said[0].strip():
            raise AssertionError(repr(said)) from error


@contextmanager
def written(data: bytes, name: str) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        yield path


@times(500)
@given(st.one_of(damaged(SUITE), damaged(SUITE, most=1), st.binary(max_size=60)))
def test_suites(data: bytes) -> None:
    with written(data, "tiny.yaml") as path, one_line():
        expand(load_suite(str(path)))


@times(400)
@given(st.one_of(damaged(SITE), damaged(SITE, most=1), st.binary(max_size=60)))
def test_sites(data: bytes) -> None:
    with written(data, "vitq.toml") as path, one_line():
        load_site(path).places()


@times(300)
@given(
    st.one_of(
        st.lists(
            st.sampled_from(["(", ")", "not", "and", "or", "a", "w4", " ", "[", "\x00", "é", "NOT"]), max_size=40
        ).map(" ".join),
        st.text(max_size=60),
        st.integers(1, 6000).flatmap(
            lambda n: st.sampled_from(["(" * n, "not " * n, "(" * n + "a" + ")" * n, "a or " * n])
        ),
    )
)
def test_expressions(expression: str) -> None:
    with one_line():
        picker(expression)("minmax/classification/digits/digits_vit/W4A4/seed0")


@cache
def _weights() -> tuple[bytes, ...]:
    torch.manual_seed(0)
    state = nn.Linear(2, 2).state_dict()
    with TemporaryDirectory() as folder:
        zipped, legacy = Path(folder, "z"), Path(folder, "l")
        torch.save({"model": state, "epoch": 1}, zipped)
        torch.save(state, legacy, _use_new_zipfile_serialization=False)
        return save(state), save(state, {"format": "pt"}), zipped.read_bytes(), legacy.read_bytes()


def _resized(data: bytes) -> st.SearchStrategy[bytes]:
    """A safetensors file whose header claims another length."""
    return st.integers(0, 2**64 - 1).map(lambda n: struct.pack("<Q", n) + data[8:])


@times(400)
@given(
    st.one_of(
        damaged(*_weights()),
        damaged(*_weights(), most=1),
        _resized(_weights()[0]),
        st.integers(0, 400).map(lambda n: _weights()[0][:n]),
        st.binary(max_size=80),
        st.binary(max_size=80).map(lambda b: b"\x80\x02" + b),
    )
)
def test_weights(data: bytes) -> None:
    with written(data, "w.pth") as path, one_line(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights.put(read(path), nn.Linear(2, 2), f"weights file {path}", "m")


@times(400)
@given(
    st.one_of(
        replaced(*valid_record_lines()),
        replaced(*valid_record_lines(), most=1),
        damaged(*valid_record_lines()),
        st.binary(max_size=60),
    ),
    st.integers(0, 5),
)
def test_records(line: bytes, place: int) -> None:
    """What is read can be shown, too."""
    good = valid_record_lines()
    good[place : place + 1] = [line]
    with one_line():
        rows = join(parse_records(b"\n".join(good) + b"\n", Path("records.jsonl")))
        for fmt in ("plain", "markdown", "csv"):
            results_table(rows, fmt)
        for row in rows:
            row_view(row)
