"""`verify` says before a run what would spoil it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from vitq.tasks import registry
from vitq.tasks.base import LoadedModel, Measured, Places
from vitq.tasks.names import model_entry
from vitq.tasks.verify import Check, accuracy_check, verify_task

TASK = registry.load("classification")


def verify(models: list[str], dataset: str, places: Places, sample: int = 256) -> dict[str, Check]:
    checks = verify_task(TASK, models, dataset, places, sample=sample, progress=lambda phase, done, total: None)
    assert all("\n" not in check.message for check in checks)
    return {check.name: check for check in checks}


def test_the_digits_are_good() -> None:
    checks = verify(["digits_vit", "digits_swin"], "digits", Places(hub=False))
    assert all(check.ok for check in checks.values()), checks
    assert len(checks) == 6


def test_wrong_weights_show_in_the_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    entry = model_entry("digits_vit")
    how = entry.preprocessing
    untrained = LoadedModel("digits_vit", TASK.build_model("digits_vit"), how, None, entry.expected)
    monkeypatch.setattr(TASK, "load_model", lambda name, places: untrained)
    check = verify(["digits_vit"], "digits", Places())["digits_vit: FP32 accuracy"]
    assert not check.ok
    assert "expected" in check.message


def test_missing_weights_and_missing_folders_are_checks_that_fail(tmp_path: Path) -> None:
    checks = verify(["vit_tiny_patch16_224"], "imagenet-proxy", Places(hub=False))
    assert [check.ok for check in checks.values()] == [False, False]
    gone = Places(datasets={"imagenet-proxy": tmp_path / "gone"}, hub=False)
    assert not any(check.ok for check in verify(["vit_tiny_patch16_224"], "imagenet-proxy", gone).values())


@pytest.mark.parametrize(
    ("value", "expected", "ok"),
    [(84.0, 87.77, True), (81.0, 87.77, False), (95.0, 87.77, True), (0.3, None, False), (60.0, None, True)],
)
def test_three_standard_errors_decide(value: float, expected: float | None, ok: bool) -> None:
    assert accuracy_check("m", Measured(value, 256, None), expected, 1000).ok is ok


@pytest.mark.slow
def test_real_photographs_pass_and_a_damaged_one_is_found(shared: Path, tmp_path: Path) -> None:
    proxy = tmp_path / "proxy"
    shutil.copytree(shared / "data" / "imagenet-proxy", proxy, copy_function=shutil.copyfile)
    places = Places(datasets={"imagenet-proxy": proxy}, weights={"all": shared / "data" / "weights"}, hub=False)
    checks = verify(["vit_tiny_patch16_224"], "imagenet-proxy", places, sample=64)
    assert all(check.ok for check in checks.values()), checks
    victim = next((proxy / "val").rglob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:2000])
    broken = verify(["vit_tiny_patch16_224"], "imagenet-proxy", places, sample=64)
    assert victim.name in broken["imagenet-proxy: val files"].message
    assert not broken["imagenet-proxy: ATTRIBUTION.csv"].ok
