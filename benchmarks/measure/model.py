"""Making the quantized model: by the method, of the subject that the task makes, and written to its file."""

from __future__ import annotations

from collections.abc import Iterator

from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.measure.quantizing import Quantizing, save
from vitq.methods.base import Quantized
from vitq.record import ModelFile, Record


def measure(bench: Bench) -> Iterator[Record]:
    """Run the method, save what it made, and read it back: the record of the model."""
    order = bench.order
    order.artifacts.mkdir(parents=True, exist_ok=True)
    with bench.phase("quantize"):
        work = _work(bench)
        done = work.run()
    bench.notes.files.update({name: bench.relative(path) for name, path in done.files.items()})
    calibrated = work.calibrated()
    if calibrated is not None:
        bench.keep("calibration", order.artifacts / "calibration.txt", bench.data.calibration_list.encode())
    with bench.phase("save"):
        file = _save(bench, done)
    yield bench.record("model", model_file=file, calibrated=calibrated, details=done.details)
    del done
    bench.quantized  # noqa: B018 - a file that cannot be read back is a failure of this measurement


def _work(bench: Bench) -> Quantizing:
    order, cell = bench.order, bench.order.cell
    return Quantizing(
        bench.task, bench.chosen, bench.loaded, bench.data, seed=cell.seed, device=order.device,
        artifacts=order.artifacts, progress=bench.link.phase, batch=cell.calibration.get("batch"),
    )  # fmt: skip


def _save(bench: Bench, done: Quantized) -> ModelFile:
    order = bench.order
    architecture = {"task": order.cell.task, "model": bench.entry.model_dump(mode="json", by_alias=True)}
    saved = save(done, order.model_path, bench.chosen.header(done, architecture, order.identities.own["model"]))
    return ModelFile(
        path=bench.relative(saved.path), sha256=saved.sha256, bytes=saved.bytes, header_bytes=saved.header_bytes,
        kept=order.keep_model,
    )  # fmt: skip
