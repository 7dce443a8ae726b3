"""The measurements of one cell: load, FP32 reference, quantize, evaluate, count, time."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitq.benchmarks.accounting import LayerRow, account
from vitq.benchmarks.cells import fingerprint
from vitq.benchmarks.latency import measure
from vitq.benchmarks.order import Order, Send
from vitq.benchmarks.record import LatencyRow, Metric
from vitq.methods.base import InputSpec, Job, Method, Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import Card, all_cards
from vitq.methods.options import make_options
from vitq.methods.registry import load as load_method
from vitq.tasks.base import Data, LoadedModel, Measured, Task
from vitq.tasks.names import model_entry
from vitq.tasks.places import Places
from vitq.tasks.registry import load as load_task


@dataclass
class Bench:
    """The state of one cell while it is measured; what is gathered before a failure still reaches the record."""

    order: Order
    send: Send
    seconds: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def task(self) -> Task:
        """The cell's task."""
        return load_task(self.order.cell.task)

    @cached_property
    def method(self) -> Method:
        """The cell's method module."""
        return load_method(self.order.cell.method)

    @cached_property
    def card(self) -> Card:
        """The method's card."""
        return all_cards()[self.order.cell.method]

    @cached_property
    def options(self) -> Any:
        """The method's options dataclass, made from the cell's."""
        return make_options(self.method.Options, self.order.cell.options)

    @cached_property
    def bits(self) -> Bits:
        """The cell's widths."""
        return Bits.parse(self.order.cell.bits)

    @cached_property
    def places(self) -> Places:
        """Where data and weights are."""
        return self.order.site.places()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase and tell the driver; each phase is seeded by itself, so that none depends on another's draws."""
        torch.manual_seed(self.order.cell.seed)
        self.send(name, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - start, 4)


def quantize_and_measure(bench: Bench) -> dict[str, Any]:
    """The record's measured fields for one cell."""
    bench.details["paper_name"] = model_entry(bench.order.cell.model).paper_name
    if bench.order.accounting:
        return _accounting_only(bench)
    cell, device = bench.order.cell, torch.device(bench.order.device)
    with bench.phase("load"):
        loaded = bench.task.load_model(cell.model, bench.places)
        loaded.model.to(device).eval()
        data = bench.task.open_data(
            cell.dataset, loaded, bench.places, limit=cell.limit, seed=cell.seed, calibration=cell.calibration
        )
    files = _keep_lists(bench, data)
    with bench.phase("fp32"):
        fp32 = _fp32_metrics(bench, loaded, data)
    with bench.phase("quantize"):
        done = bench.method.quantize(_job(bench, loaded, data), bench.options)
        done.model.eval()
    with bench.phase("evaluate"):
        same = done.model is loaded.model or done.exec == "fp32"
        metrics = fp32 if same else _metrics(bench.task.evaluate(done.model, data, bench.send))
        bench.details["logits_sha256"] = _logits_sha256(bench.task, done.model, data)
    with bench.phase("account"):
        size, operations, layers = account(loaded.model, done.model, loaded.size, bench.bits)
    with bench.phase("latency"):
        latency = _latency(bench, loaded, done, device)
    bench.details.update(done.details)
    files |= {name: _relative(bench, path) for name, path in done.files.items()}
    files["layers"] = _relative(bench, _write_layers(bench, layers))
    return {
        "metrics": metrics,
        "fp32": fp32,
        "size": size,
        "operations": operations,
        "latency": latency,
        "files": files,
        "weights_sha256": loaded.weights_sha256,
        "data_sha256": data.sha256,
    }


def _accounting_only(bench: Bench) -> dict[str, Any]:
    """Size and operations of an architecture on the meta device: no data, no weights, nothing computed."""
    cell = bench.order.cell
    with bench.phase("account"), torch.device("meta"):
        model = bench.task.build_model(cell.model).eval()
        prepared = bench.method.prepare(copy.deepcopy(model), bench.bits, bench.options)
        size, operations, layers = account(model, prepared, model_entry(cell.model).preprocessing.size, bench.bits)
    path = _write_layers(bench, layers)
    return {"size": size, "operations": operations, "files": {"layers": _relative(bench, path)}}


def _job(bench: Bench, loaded: LoadedModel, data: Data) -> Job:
    order, task = bench.order, bench.task
    order.artifacts.mkdir(parents=True, exist_ok=True)
    return Job(
        model=copy.deepcopy(loaded.model),
        bits=bench.bits,
        calibration=data.calibration,
        forward=task.forward,
        loss=task.loss,
        distance=task.distance,
        distill=task.distill,
        synthesize=lambda images, generator: task.synthesize(images, generator, loaded),
        input=InputSpec(loaded.size, loaded.mean, loaded.std),
        training=data.training,
        validate=lambda model: {k: m.value for k, m in task.evaluate(model, data, bench.send).items()},
        seed=order.cell.seed,
        device=torch.device(order.device),
        artifacts=order.artifacts,
        progress=bench.send,
    )


def _metrics(measured: dict[str, Measured]) -> dict[str, Metric]:
    return {name: Metric(value=m.value, n=m.n, stderr=m.stderr) for name, m in measured.items()}


@torch.inference_mode()
def _logits_sha256(task: Task, model: nn.Module, data: Data) -> str:
    """sha256 of the outputs on the first validation batch: two runs that agree in it agree bit for bit there."""
    output = task.forward(model, next(iter(data.validation())))
    return hashlib.sha256(output.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()


def _fp32_metrics(bench: Bench, loaded: LoadedModel, data: Data) -> dict[str, Metric]:
    """FP32 metrics on the same data, measured once for a results folder and kept by all of their inputs."""
    cell = bench.order.cell
    key = fingerprint(
        cell.model_copy(update={"method": "fp32", "options": {}, "bits": "FP32", "calibration": {}, "seed": 0}),
        weights=loaded.weights_sha256,
        data=data.sha256,
        subset=data.subset,
        device=bench.order.device,
        torch=torch.__version__,
    )
    path = bench.order.folder / "fp32" / f"{key[:16]}.json"
    if path.is_file():
        return {name: Metric.model_validate(m) for name, m in json.loads(path.read_text()).items()}
    metrics = _metrics(bench.task.evaluate(loaded.model, data, bench.send))
    _write_atomically(path, json.dumps({name: m.model_dump() for name, m in metrics.items()}))
    return metrics


def _latency(bench: Bench, loaded: LoadedModel, done: Quantized, device: torch.device) -> list[LatencyRow]:
    spec = bench.order.latency
    if spec is None:
        return []
    generator = torch.Generator().manual_seed(bench.order.cell.seed)
    images = torch.randn((spec.batch, *loaded.size), generator=generator).to(device)
    forms: dict[str, nn.Module] = {"fp32": loaded.model}
    if done.exec != "fp32":
        forms[done.exec] = done.model
    threads = spec.threads or bench.order.threads or torch.get_num_threads()
    return measure(forms, images, runs=spec.runs, warmup=spec.warmup, threads=threads, device=str(device))


def _keep_lists(bench: Bench, data: Data) -> dict[str, str]:
    """Store which images were drawn: the validation subset of `--limit`, and the calibration set."""
    kept = {}
    for name, text in (("subset", data.subset), ("calibration", data.calibration_list)):
        if text:
            path = bench.order.artifacts / f"{name}.txt"
            _write_atomically(path, text)
            kept[name] = _relative(bench, path)
    return kept


def _write_layers(bench: Bench, layers: list[LayerRow]) -> Path:
    path = bench.order.artifacts / "layers.json"
    _write_atomically(path, json.dumps([row._asdict() for row in layers]))
    return path


def _relative(bench: Bench, path: Path) -> str:
    return str(path.resolve().relative_to(bench.order.folder.resolve()))


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{os.getpid()}.half")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
