"""Devices: FP32 is FP32 and repeatable, each GPU is waited for and measured by itself, older GPUs have no bfloat16."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpus import FakeGpus, needs_gpus
from torch import nn

from vitq.methods.toolkit import devices

ROOT = Path(__file__).resolve().parents[3]
SECOND = torch.device("cuda", 1)

ASK = """
import json, sys, torch
from vitq.methods.toolkit import devices
if "prepared" in sys.argv:
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")
if "modern" in sys.argv:
    torch.backends.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "tf32"
before = devices.settings()
devices.make_deterministic()
after = devices.settings()
devices.make_deterministic()
assert devices.settings() == after
print(json.dumps([before, after, torch.cuda.is_initialized(), torch.utils.deterministic.fill_uninitialized_memory]))
"""


def ask(*words: str, **environment: str) -> tuple[dict[str, str], dict[str, str]]:
    """Settings before and after, in a process of its own: they are of the whole process."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, *words], env=os.environ | environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    before, after, started, filled = json.loads(done.stdout)
    assert not started
    assert not filled
    return before, after


def test_fp32_is_fp32_and_repeatable() -> None:
    before, after = ask()
    precisions = {name: word for name, word in after.items() if name.endswith("fp32_precision")}
    assert set(precisions.values()) == {"ieee"}
    assert "cuda.matmul.fp32_precision" in precisions
    assert any(word != "ieee" for name, word in before.items() if name in precisions), "torch's default was not TF32"
    assert (after["cudnn.deterministic"], after["cudnn.benchmark"]) == ("on", "off")
    assert after["deterministic_algorithms"] == "on, warn only"
    assert after["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize("word", ["prepared", "modern"])
def test_what_was_set_before_does_not_matter(word: str) -> None:
    if word == "modern" and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch before 2.9 has no such setting")
    before, after = ask(word)
    assert before != after
    assert after == ask()[1]


def test_nor_does_the_environment() -> None:
    asked = {"NVIDIA_TF32_OVERRIDE": "1", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "CUBLAS_WORKSPACE_CONFIG": ":0:0"}
    before, after = ask(**asked)
    assert {name: before[name] for name in asked} == asked
    assert after == ask()[1]


def test_settings_change_with_what_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    was = devices.settings()
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    now = devices.settings()
    assert {name for name in now if now[name] != was[name]} == {"cudnn.benchmark"}
    assert all(isinstance(word, str) for word in now.values())


def test_the_cpu_needs_nothing_and_has_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGpus(monkeypatch)
    for device in ("cpu", torch.device("cpu")):
        devices.use(device)
        devices.synchronize(device)
        devices.reset_peak(device)
        assert devices.peak_memory_mb(device) > 10
        assert devices.mixed_precision(device) is None
        assert devices.clock(device) <= devices.clock(device)
    assert fake.calls == []


@pytest.mark.parametrize("device", ["cuda:1", SECOND])
def test_a_gpu_is_asked_by_its_number(monkeypatch: pytest.MonkeyPatch, device: devices.Device) -> None:
    fake = FakeGpus(monkeypatch)
    devices.use(device)
    devices.synchronize(device)
    devices.clock(device)
    devices.reset_peak(device)
    assert devices.peak_memory_mb(device) == 2.0
    devices.mixed_precision(device)
    names = ["set_device", "synchronize", "synchronize", "reset_peak_memory_stats", "max_memory_allocated"]
    assert fake.calls == [(name, SECOND) for name in [*names, "get_device_capability"]]


def test_a_gpu_without_a_number_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGpus(monkeypatch)
    devices.use("cuda")
    devices.synchronize("cuda")
    assert fake.calls == [("synchronize", torch.device("cuda"))]


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ((7, 0), torch.float16),  # Volta
        ((7, 5), torch.float16),  # Turing, which emulates bfloat16
        ((8, 0), torch.bfloat16),
        ((8, 9), torch.bfloat16),
        ((9, 0), torch.bfloat16),
        ((12, 0), torch.bfloat16),
    ],
)
def test_bfloat16_only_where_the_gpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    FakeGpus(monkeypatch, capability)
    assert devices.mixed_precision(SECOND) == dtype


def test_no_source_asks_the_current_gpu() -> None:
    """Every call of `torch.cuda` names its device, but for what starts CUDA, counts GPUs or follows its stream."""
    wrong = []
    for room in ("methods", "tasks", "datasets", "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("torch.cuda."):
                    counts = ast.unparse(node.func) in (
                        "torch.cuda.device_count",
                        "torch.cuda.init",
                        "torch.cuda.Event",
                    )
                    if not counts and not node.args:
                        wrong.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert wrong == []


@pytest.mark.cuda
@needs_gpus()
def test_a_convolution_on_a_gpu_is_fp32_and_repeatable() -> None:
    """TF32 has 10 bits of mantissa: its error is far over FP32's; nobody could tell them apart by less."""
    script = """
import torch
from vitq.methods.toolkit import devices
devices.make_deterministic(); devices.use("cuda:0")
torch.manual_seed(0)
x, layer = torch.randn(8, 64, 32, 32), torch.nn.Conv2d(64, 64, 3)
x.requires_grad_(True)
want = layer.double()(x.double()); layer.float()
def run():
    y = x.detach().cuda().requires_grad_(True); out = layer.cuda()(y); out.square().sum().backward()
    return out.detach().cpu(), y.grad.cpu()
(a, g), (b, h) = run(), run()
assert torch.equal(a, b) and torch.equal(g, h)
assert float((a - want).abs().max()) < 1e-5, float((a - want).abs().max())
left, right = torch.randn(256, 256), torch.randn(256, 256)
assert float(((left.cuda() @ right.cuda()).cpu() - left.double() @ right.double()).abs().max()) < 1e-4
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.cuda
@needs_gpus(2)
def test_the_peak_is_of_the_gpu_that_was_asked_for() -> None:
    devices.reset_peak("cuda:0")
    devices.reset_peak("cuda:1")
    before = devices.peak_memory_mb("cuda:0")
    kept = nn.Parameter(torch.empty(10_000_000, device="cuda:1"))
    assert devices.peak_memory_mb("cuda:1") >= kept.numel() * 4 / 1e6
    assert devices.peak_memory_mb("cuda:0") == before


TRIES = """
import sys, torch
from vitq.methods.toolkit import devices
if "legacy" in sys.argv:
    torch.set_float32_matmul_precision("high")
if "modern" in sys.argv and hasattr(torch.backends, "fp32_precision"):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
if "strict" in sys.argv:
    torch.use_deterministic_algorithms(True)
before, older = devices.settings(), torch.backends.cudnn.allow_tf32
try:
    with devices.deterministic():
        assert devices.settings()["deterministic_algorithms"] == "on, warn only"
        raise KeyError
except KeyError:
    pass
assert devices.settings() == before, (before, devices.settings())
assert torch.backends.cudnn.allow_tf32 == older
torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))  # asks by the older names
"""


@pytest.mark.parametrize("word", ["plain", "legacy", "modern", "strict"])
def test_settings_for_a_while_are_put_back(word: str) -> None:
    done = subprocess.run([sys.executable, "-c", TRIES, word], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
