"""Suites and site files that are wrong: each is one line that says where and what to do, and exit code 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import vitq_here

GOOD = """name: tiny
tasks:
  - dataset: digits
    models: [digits_vit]
bits: [W8A8]
methods:
  - minmax
  - method: psaq_vit
    options: {iterations: 5}
    models: [digits_vit]
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITQ_SITE", raising=False)


def suite(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    Path("tiny.yaml").write_bytes(data)
    return vitq_here("list", "cells", "tiny.yaml").refused("tiny.yaml")


def changed(right: str, wrong: str) -> str:
    assert right in GOOD
    return suite(GOOD.replace(right, wrong, 1))


def test_the_suite_itself_is_good() -> None:
    Path("tiny.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert vitq_here("list", "cells", "tiny.yaml").code == 0


@pytest.mark.parametrize(
    ("right", "wrong", "line", "says"),
    [
        ("    models: [digits_vit]\n", "    models: [digits_vitt]\n", 4, "did you mean 'digits_vit'"),
        ("5}\n    models: [digits_vit]", "5}\n    models: [digits_vitt]", 10, "did you mean 'digits_vit'"),
        ("5}\n    models: [digits_vit]", "5}\n    models: [digits_swin]", 10, "no task of this suite runs"),
        ("5}\n    models: [digits_vit]", "5}\n    models: []", 10, "at least 1"),
        ("bits: [W8A8]", "bits: []", 5, "at least 1"),
        ("bits: [W8A8]", "bits: [W8A8, W8A8]", 5, "listed twice"),
        ("bits: [W8A8]", "bits: W8A8", 5, "list"),
        ("bits: [W8A8]", "bits: [8]", 5, "string"),
        ("bits: [W8A8]", "bits: null", 5, "list"),
        ("bits: [W8A8]", "bits: [W8A8]\nbits: [W4A4]", 6, "given before, in line 5"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [1:30]", 6, "1:30 means different things"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [010]", 6, "without the leading 0"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [0x10]", 6, "decimal"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [1_000]", 6, "without _"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [-1]", 6, "greater than or equal to 0"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [9223372036854775808]", 6, "less than or equal"),
        ("bits: [W8A8]", f"bits: [W8A8]\nseeds: [{'9' * 5000}]", 0, "digits"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [1.0]", 6, "integer"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [true]", 6, "integer"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: ['1']", 6, "integer"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: []", 6, "at least 1"),
        ("bits: [W8A8]", "bits: [W8A8]\nseeds: [1, 1]", 6, "listed twice"),
        ("bits: [W8A8]", "bits: [W8A8]\nthreads: 0", 6, "greater than or equal to 1"),
        ("bits: [W8A8]", "bits: [W8A8]\ncalibration: {images: 0}", 6, "greater than or equal to 1"),
        ("bits: [W8A8]", "bits: [W8A8]\ncalibration: {list: ''}", 6, "at least 1 character"),
        ("bits: [W8A8]", "bits: [W8A8]\nlatency: {runs: 1e9}", 6, "integer"),
        ("name: tiny", "name: no", 1, "write true or false, or put it in quotes"),
        ("name: tiny", "name: ''", 1, "name"),
        ("name: tiny", f"name: {'a' * 300}", 1, "at most 80"),
        ("name: tiny", "name: 2026-02-31x y", 1, "name"),
        ("name: tiny", "name: !!timestamp 2026-02-31", 0, "day"),
        ("name: tiny", "name: !!python/object/apply:os.getcwd []", 1, "tag"),
        ("name: tiny", "name: !tiny x", 1, "tag"),
        ("name: tiny", "name: !!int x", 0, "not YAML"),
        ("name: tiny", "name: [tiny", 2, "not YAML"),
        ("name: tiny", "name: ti\0ny", 1, "U+0000"),
        ("name: tiny", "name: ti\x1bny", 1, "U+001B"),
        ("name: tiny", "name: tiny\n? [a]\n: b", 2, "not YAML"),
        ("name: tiny", "&a name: *b", 1, "alias"),
        ("tasks:\n", "tasks: &t\n  - *t\n", 2, "contains itself"),
        ("dataset: digits", "dataset: none", 3, "measure: [counts]"),
        ("{iterations: 5}", "{iterations: 5.0}", 9, "whole number"),
        ("{iterations: 5}", "{iterations: true}", 9, "whole number"),
        ("{iterations: 5}", "{iterations: '5'}", 9, "whole number"),
        ("{iterations: 5}", "{iterations: null}", 9, "leave it out for the default, 500"),
        ("{iterations: 5}", "{lr: '1e-5'}", 9, "as 0.5 or 1e-5"),
        ("{iterations: 5}", "{lr: .nan}", 9, "finite"),
        ("{iterations: 5}", "{lr: .inf}", 9, "finite"),
        ("{iterations: 5}", "{lr: [1]}", 9, "number"),
        ("{iterations: 5}", "{images_from: 5}", 9, "text"),
        ("{iterations: 5}", "{calibration: real, calibration: gaussian}", 9, "given before"),
        ("{iterations: 5}", "{calibration: {}}", 9, "psaq_vit.calibration is {}"),
        ("{iterations: 5}", "{1: 5}", 9, "string"),
        ("{iterations: 5}", "[iterations]", 9, "dictionary"),
        ("- minmax", "- 5", 7, "methods.0"),
        ("- minmax", "- [minmax]", 7, "methods.0"),
        ("- minmax", "- null", 7, "methods.0"),
        ("- minmax", "- {method: pmq, options: {widths: [2, x]}}", 7, "each item a whole number"),
        ("- minmax", "- {method: pmq, options: {patch_wise: yes}}", 7, "write true or false"),
        ("- minmax", "- {method: pmq, options: {patch_wise: 1}}", 7, "true or false"),
        ("- minmax", "- {method: repq_vit, options: {rounded_zero_point: 1}}", 7, "known: false, true"),
    ],
)
def test_a_wrong_word_is_named_with_its_line(right: str, wrong: str, line: int, says: str) -> None:
    said = changed(right, wrong)
    assert says in said
    assert not line or f"line {line}" in said


@pytest.mark.parametrize("text", ["1e-5", "1E-05", "1.0e-5", "0.00001"])
def test_exponents_are_numbers(text: str) -> None:
    Path("tiny.yaml").write_text(GOOD.replace("{iterations: 5}", f"{{lr: {text}}}"))
    assert vitq_here("list", "cells", "tiny.yaml").code == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD.encode("utf-16"), "UTF-8"),
        (b"name: tiny\n# caf\xe9\n", "line 2 is not UTF-8"),
        (b"", "must be a mapping"),
        (b"--- a\n--- b\n", "not YAML"),
        (b"5", "must be a mapping"),
        (b"[" * 5000, "nested more than"),
        (b"[" * 5000 + b"]" * 5000, "nested more than"),
        (b"{a: " * 5000, "nested more than"),
        (b"\n".join(b" " * i + b"a:" for i in range(400)), "nested more than"),
        (b"- " * 5000, "nested more than"),
        (b"a: &a [x, x, x, x, x, x, x, x]\n" + b"".join(
            f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n".encode() for b, c in zip("abcdefgh", "bcdefghi", strict=True)
        ), "aliases unfolded"),
        (b"name: " + b"x" * (1 << 19), "larger than"),
        (b"<<: 5\n", "not YAML"),
        (b"name: \xed\xa0\x80\n", "UTF-8"),
        (b"\x00" * 100, "U+0000"),
        (b"%YAML 9.9\n---\nname: x\n", "not YAML"),
    ],
)  # fmt: skip
def test_what_is_no_suite_at_all(data: bytes, says: str) -> None:
    assert says in suite(data)


def test_a_suite_that_is_no_file() -> None:
    os.mkfifo("pipe.yaml")
    Path("folder.yaml").mkdir()
    Path("loop.yaml").symlink_to("loop.yaml")
    for name in ("pipe.yaml", "folder.yaml", "loop.yaml", "gone.yaml", "a" * 5000 + ".yaml", "/dev/zero", ""):
        vitq_here("list", "cells", name).refused()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("results = ''", "empty"),
        ("results = '  '", "empty"),
        ('results = "a\\u0000b"', "control characters"),
        ("results = '~nosuchuser/x'", "nosuchuser"),
        ("results = 5", "results"),
        ("results = 2026-01-01", "results"),
        ("results = 2026-02-31", "not TOML"),
        ("threads = 1000000", "cores"),
        ("threads = 0", "threads is 0"),
        ("threads = true", "integer"),
        ("threads = 1.0", "integer"),
        ("workers = -1", "workers is -1"),
        ("workers = 1000000", "cores"),
        ("hub = 'no'", "boolean"),
        ("hub = 1", "boolean"),
        ("[datasets]\nimagenet = '.'", "imagenet-1k"),
        ("[datasets]\ndigits = '.'", "needs no folder"),
        ("[datasets]\nimagenet-1k = ''", "empty"),
        ("[weights]\nvit_tiny_patch16_22 = '.'", "did you mean 'vit_tiny_patch16_224'"),
        ("[weights]\ntiny = 'vitq.toml'", "no model's name"),
        ("[weights]\ntiny = ['x']", "weights.tiny"),
        ("[weight]", "did you mean 'weights'"),
        ("threads = 1\nthreads = 1", "not TOML"),
        ("x = " + "[" * 5000, "not TOML"),
        ("x = " + "9" * 5000, "not TOML"),
        ("x" * (1 << 19), "larger than"),
        ("\0", "not TOML"),
    ],
)
def test_a_wrong_site_file(text: str, says: str) -> None:
    Path("vitq.toml").write_text(text)
    assert says in vitq_here("run", "smoke", "--dry-run").refused("site file", "vitq.toml")


def test_a_site_file_that_is_no_text_or_no_file() -> None:
    Path("bad.toml").write_bytes(b"results = '\xff'")
    os.mkfifo("pipe.toml")
    Path("loop.toml").symlink_to("loop.toml")
    for name in ("bad.toml", "pipe.toml", "loop.toml", ".", "/dev/zero", "gone.toml", "a" * 5000):
        vitq_here("run", "smoke", "--dry-run", "--site", name).refused("site file")
    vitq_here("run", "smoke", "--dry-run", "--site", "").refused("--site", "empty")


def test_an_empty_variable_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITQ_SITE", "")
    vitq_here("run", "smoke", "--dry-run").refused("VITQ_SITE is empty")


def test_home_is_expanded_in_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vitq.benchmarks.plan.site import load_site

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("vitq.toml").write_text("results = '~/r'\n[weights]\nany = '~/w'\n")
    site = load_site()
    assert site.results == tmp_path / "home" / "r"
    assert site.weights["any"] == tmp_path / "home" / "w"
