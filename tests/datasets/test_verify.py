"""Checks of a data set find what is wrong with it, and only that."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vitq.datasets import digits, imagenet
from vitq.datasets.base import Check
from vitq.datasets.digit_scans import verify_digits
from vitq.datasets.verify import verify_folder


def run(folder: Path, dataset: str = "imagenet-proxy") -> dict[str, Check]:
    checks = verify_folder(dataset, folder, 4, lambda phase, done, total: None)
    assert all("\n" not in check.message for check in checks)
    return {check.name: check for check in checks}


def attribute(folder: Path) -> None:
    rows = ["file,class_index,sha256"]
    for split in ("train", "val"):
        for item in imagenet.listing(folder, split):
            rows.append(f"{item.path},{item.label},{hashlib.sha256((folder / item.path).read_bytes()).hexdigest()}")
    (folder / "ATTRIBUTION.csv").write_text("\n".join(rows) + "\n")


def test_a_good_folder_passes(folder: Path) -> None:
    attribute(folder)
    checks = run(folder)
    assert len(checks) == 5
    assert all(check.ok for check in checks.values())


def test_a_partial_imagenet_is_not_complete(folder: Path) -> None:
    checks = run(folder, "imagenet-1k")
    assert not checks["imagenet-1k: val"].ok
    assert "4 of 1000 classes" in checks["imagenet-1k: val"].message
    assert not checks["imagenet-1k: train"].ok


def test_an_unreadable_file_is_found(folder: Path) -> None:
    victim = imagenet.listing(folder, "val")[7]
    (folder / victim.path).write_bytes(b"\xff\xd8\xff")
    check = run(folder)["imagenet-proxy: val files"]
    assert not check.ok
    assert victim.path in check.message


def test_an_unsorted_val_folder_is_found(folder: Path) -> None:
    for item in imagenet.listing(folder, "val"):
        path = folder / item.path
        path.rename(folder / "val" / path.name)
    for synset in (folder / "val").iterdir():
        if synset.is_dir():
            synset.rmdir()
    check = run(folder)["imagenet-proxy: val"]
    assert not check.ok
    assert "not sorted by class" in check.message


@pytest.mark.parametrize("harm", ["content", "missing", "moved", "extra", "columns"])
def test_attribution_is_held_against_the_files(folder: Path, harm: str) -> None:
    attribute(folder)
    path = folder / imagenet.listing(folder, "val")[0].path
    if harm == "content":
        path.write_bytes(path.read_bytes() + b"x")
    elif harm == "missing":
        path.unlink()
    elif harm == "columns":
        (folder / "ATTRIBUTION.csv").write_text("file,order\n")
    elif harm == "extra":
        (path.parent / "new.jpg").write_bytes(path.read_bytes())
    else:
        text = (folder / "ATTRIBUTION.csv").read_text()
        (folder / "ATTRIBUTION.csv").write_text(text.replace(f"{path.name},0", f"{path.name},7"))
    assert not run(folder)["imagenet-proxy: ATTRIBUTION.csv"].ok


def test_the_digits_pass_and_a_scan_in_two_splits_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(check.ok for check in verify_digits())
    harmed = {split: list(indices) for split, indices in digits.splits().items()}
    harmed["train"][0] = harmed["validation"][0]
    monkeypatch.setattr(digits, "splits", lambda: harmed)
    assert not all(check.ok for check in verify_digits())
