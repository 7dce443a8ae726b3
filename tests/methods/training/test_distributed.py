"""Joining torchrun's processes: each takes its own GPU before NCCL starts; what makes no sense is said in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from gpus import FakeGpus, needs_gpus
from torch import nn

from vitq.errors import MethodInputError
from vitq.methods.training import distributed
from vitq.methods.training.distributed import Ranks, join, local_device
from vitq.methods.training.recipe import Recipe
from vitq.methods.training.run import Run

SECOND = torch.device("cuda", 1)


class FakeGroup:
    """Stands in for torch.distributed in one process: notes how it is started, answers as rank 1 of 2."""

    def __init__(self, patch: pytest.MonkeyPatch, gpus: FakeGpus) -> None:
        self.started: list[dict[str, Any]] = []

        def start(backend: str, **words: Any) -> None:
            self.started.append({"backend": backend, **words, "after": list(gpus.calls)})

        patch.setattr(dist, "init_process_group", start)
        patch.setattr(dist, "is_initialized", lambda: bool(self.started))
        patch.setattr(dist, "get_rank", lambda: 1)
        patch.setattr(dist, "get_world_size", lambda: 2)
        patch.setattr(distributed.atexit, "register", lambda function: function)


def environment(patch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        patch.delenv(name, raising=False)
    for name, value in variables.items():
        patch.setenv(name, value)


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    gpus = FakeGpus(monkeypatch)
    assert join(SECOND) == join(torch.device("cpu")) == Ranks(0, 1)
    assert local_device(SECOND) == SECOND
    assert gpus.calls == []


def test_a_process_takes_its_gpu_before_nccl_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, WORLD_SIZE="2", RANK="1", LOCAL_RANK="1")
    gpus = FakeGpus(monkeypatch)
    group = FakeGroup(monkeypatch, gpus)
    assert join(local_device(torch.device("cuda"))) == Ranks(1, 2)
    (started,) = group.started
    assert started == {"backend": "nccl", "device_id": SECOND, "after": [("set_device", SECOND)]}
    assert join(SECOND) == Ranks(1, 2)
    assert len(group.started) == 1


def test_processes_on_the_cpu_use_gloo_and_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, WORLD_SIZE="2", RANK="1", LOCAL_RANK="1")
    group = FakeGroup(monkeypatch, FakeGpus(monkeypatch))
    join(torch.device("cpu"))
    assert group.started == [{"backend": "gloo", "device_id": None, "after": []}]


@pytest.mark.parametrize(
    ("variables", "device", "words"),
    [
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, torch.device("cuda", 0), "must train on cuda:1, not on cuda:0"),
        ({"WORLD_SIZE": "4", "LOCAL_RANK": "3"}, torch.device("cuda", 0), "process 3 .* no GPU .* there are 2"),
        ({"WORLD_SIZE": "2"}, torch.device("cuda", 0), "LOCAL_RANK is ''.*torchrun"),
        ({"WORLD_SIZE": "two"}, torch.device("cpu"), "WORLD_SIZE is 'two'.*torchrun"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], device: torch.device, words: str
) -> None:
    environment(monkeypatch, **variables)
    FakeGroup(monkeypatch, FakeGpus(monkeypatch))
    with pytest.raises(MethodInputError, match=words) as error:
        join(device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("amp", "capability", "dtype"),
    [(False, (9, 0), None), (True, (9, 0), torch.bfloat16), (True, (7, 5), torch.float16), (True, None, None)],
)
def test_mixed_precision_is_asked_for_and_float16_is_scaled(
    monkeypatch: pytest.MonkeyPatch, amp: bool, capability: tuple[int, int] | None, dtype: torch.dtype | None
) -> None:
    """The trainer asks for its device's type of mixed precision, never on its own account, and never on the CPU."""
    monkeypatch.setattr(torch, "autocast", lambda device, dtype, enabled: (device, dtype, enabled))
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: (device, enabled))
    if capability is not None:
        FakeGpus(monkeypatch, capability)
    model = nn.Linear(2, 2)
    run = _on(monkeypatch, model, Recipe(1, 0.1, amp=amp), "cpu" if capability is None else "cuda")
    assert run.dtype == dtype
    assert run.autocast[2] == (dtype is not None)
    assert run.scaler[1] == (dtype == torch.float16)
    assert run.signature["precision"] == str(dtype or torch.float32).removeprefix("torch.")


def test_mixed_precision_is_off_by_default() -> None:
    assert not Recipe(1, 0.1).amp


def _on(patch: pytest.MonkeyPatch, model: nn.Module, recipe: Recipe, kind: str) -> Any:
    """A run whose parameters say that they are on a device of that kind."""
    here = torch.device("cpu") if kind == "cpu" else SECOND
    named = dict(model.named_parameters())
    patch.setattr(nn.Parameter, "device", property(lambda self: here), raising=False)
    return Run(model, recipe, named, 0, None)


@pytest.mark.cuda
@needs_gpus(2)
def test_two_processes_train_on_two_gpus(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        """
import sys, torch
from torch import nn
from torch.nn import functional as F
from vitq.methods.training.distributed import local_device
from vitq.methods.training.trainer import Recipe, train
torch.manual_seed(0)
device = local_device(torch.device("cuda"))
model = nn.Linear(6, 3).to(device)
data = [(torch.randn(8, 6), torch.randint(3, (8,))) for _ in range(4)]
history = train(model, Recipe(2, 0.01), lambda _: iter(data),
                lambda m, b: F.cross_entropy(m(b[0].to(device)), b[1].to(device)), seed=0)
torch.save([str(device), model.weight.detach().cpu(), history], f"{sys.argv[1]}/{device.index}.pt")
""",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, str(script), str(tmp_path)], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert (first[0], second[0]) == ("cuda:0", "cuda:1")
    assert torch.equal(first[1], second[1])
    assert first[2] == second[2]
