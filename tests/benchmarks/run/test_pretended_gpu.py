"""Every method, task and trainer on a GPU that is pretended: no tensor is left behind on the CPU.

What a pretended GPU refuses is tested first: a test that could not fail would say nothing.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretended import WrongDeviceError, pretended_gpu
from torch import nn

from vitq import mm
from vitq.benchmarks.plan.cells import expand
from vitq.benchmarks.plan.orders import plan
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import Suite
from vitq.benchmarks.run import worker
from vitq.benchmarks.run.messages import Link
from vitq.methods.psaq_vit import patch_similarity
from vitq.record import Record

TASKS = {
    "classification": ("digits", "digits_vit"),
    "detection": ("digit-scenes", "digits_mask_rcnn"),
    "segmentation": ("digit-scenes-maps", "digits_upernet_vit"),
}
METHODS = {
    "fp32": {},
    "minmax": {},
    "repq_vit": {},
    "psaq_vit": {"iterations": 1},
    "psaq_vit_v2": {"cycles": 1, "image_steps": 1, "training_steps": 1},
    "pmq": {},
    "i_vit": {"epochs": 1},
    "binary_vit": {"epochs": 1},
}
"""Each method with the cheapest options that run all of it, its training where it trains."""


def test_a_pretended_gpu_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_gpu(monkeypatch):
        x, layer = torch.randn(3, 4).to("cuda"), nn.Linear(4, 2).to("cuda")
        layer(x).sum().backward()
        torch.optim.AdamW(layer.parameters()).step()
        made = [
            layer.weight,
            layer.weight.grad,
            copy.deepcopy(layer)(x),
            x.T,
            x[torch.tensor([0])],
            x * torch.tensor(2),
        ]
        made += [torch.zeros_like(x), torch.zeros(2, device="cuda"), x.new_zeros(1), x.to(torch.float64)]
        assert {str(each.device) for each in made if each is not None} == {"cuda:0"}
        there = [x.cpu(), x.to("cpu"), torch.zeros(2), torch.zeros_like(x, device="cpu")]
        assert {str(each.device) for each in there} == {"cpu"}
        assert x.cpu().numpy().shape == (3, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y, layer: x + y,
        lambda x, y, layer: layer(y),
        lambda x, y, layer: torch.cat([x, y]),
        lambda x, y, layer: x.numpy(),
        lambda x, y, layer: y[x.argmax(1) * 0],
        lambda x, y, layer: torch.rand(3, device="cuda", generator=torch.Generator()),
        lambda x, y, layer: torch.bernoulli(x.sigmoid(), generator=torch.Generator()),
        lambda x, y, layer: layer.weight.masked_fill(torch.ones(2, 4, dtype=torch.bool), 0.0),
    ],
)
def test_what_cuda_refuses_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: object) -> None:
    with pretended_gpu(monkeypatch):
        x, y, layer = torch.randn(3, 4).to("cuda"), torch.randn(3, 4), nn.Linear(4, 2).to("cuda")
        with pytest.raises(WrongDeviceError):
            wrong(x, y, layer)  # type: ignore[operator]


def records_of(method: str, task: str, folder: Path) -> list[Record]:
    """All records of a cell that is worked on in this process, on `cuda`."""
    data, model = TASKS[task]
    scope = "model" if task == "classification" or method == "fp32" else "backbone"
    bits = {"fp32": "FP32", "binary_vit": "W1A1"}.get(method, "W8A8")
    suite = Suite.model_validate(
        {
            "name": "pretended",
            "measure": ["accuracy", "counts"],
            "tasks": [{"task": task, "dataset": data, "models": [model], "limit": 10, "scope": scope}],
            "methods": [{"method": method, "options": METHODS[method]}],
            "bits": [bits],
            "calibration": {"images": 4, "batch": 4, "train_batch": 300},
        }
    )
    folder.mkdir()
    (order,) = plan(suite, expand(suite)[0], Site(), folder, device="cuda", command="test")
    order = replace(order, wanted=tuple(order.identities.own), fp32_wanted=True)
    told: list[Record] = []
    worker.work_on(order, Link(lambda *_: None, told.append))
    return told


def cells() -> list[object]:
    """Every method on every task; those of detectors and segmenters that take longer run at night."""
    every = [(method, task) for method in METHODS for task in TASKS]
    quick = [method == "minmax" or task == "classification" for method, task in every]
    marks = [pytest.mark.slow if each else pytest.mark.long for each in quick]
    return [pytest.param(*cell, marks=mark) for cell, mark in zip(every, marks, strict=True)]


@pytest.mark.parametrize(("method", "task"), cells())
def test_every_method_leaves_nothing_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, task: str
) -> None:
    if task != "classification" and mm.why_absent() is not None:
        pytest.skip(str(mm.why_absent()))
    monkeypatch.setattr(worker, "_prepare_process", lambda order: torch.manual_seed(order.cell.seed))
    for table in (patch_similarity._CHUNK, patch_similarity._WHOLE):  # a GPU's are of its memory
        monkeypatch.setitem(table, "cuda", table["cpu"])
    with pretended_gpu(monkeypatch):
        told = records_of(method, task, tmp_path / "r")
    wrong = [f"{r.kind} {r.status}: {r.error}\n{r.traceback or ''}" for r in told if r.status != "done"]
    assert not wrong, "\n".join(wrong)
    assert {record.kind for record in told} >= {"model", "accuracy", "counts"}
