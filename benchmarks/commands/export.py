"""`vitq export`: a stored model as ONNX in QDQ form, loaded again and compared with ours before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitq.benchmarks.commands.stored_model import stored_model
from vitq.errors import BadInputError, UnsupportedError
from vitq.words import nearest

if TYPE_CHECKING:
    from vitq.benchmarks.measure.exporting import Export
    from vitq.saved import Loaded

FORMATS = ("onnx",)


def export(
    wanted: str,
    suite: str,
    *,
    to: str,
    out: Path,
    runtime: str,
    batch: int,
    threads: int,
    results: Path | None,
    site: Path | None,
) -> int:
    """`vitq export`: 0 when the file was written and checked; BadInputError where it cannot be, and then none is."""
    from vitq.benchmarks.measure import exporting
    from vitq.benchmarks.measure.forms import example_of
    from vitq.saved import load_quantized
    from vitq.tasks.names import ModelEntry

    if to not in FORMATS:
        raise BadInputError(f"--to is {to!r}; {nearest(to, FORMATS)}")
    if runtime not in exporting.RUNTIMES:
        raise BadInputError(f"--runtime is {runtime!r}; {nearest(runtime, exporting.RUNTIMES)}")
    exporting.refuse(out, runtime)
    path = stored_model(wanted, suite, results, site)
    loaded = load_quantized(path)
    example = example_of(loaded.header, batch)
    try:
        how = ModelEntry.model_validate(loaded.header["architecture"]["model"]).preprocessing
        bits = str(loaded.header["bits"])
        print(_said(loaded, exporting.write(loaded.model, loaded.exec, example, out, runtime, threads, how, bits)))
    except UnsupportedError as error:
        raise BadInputError(f"{path} cannot be exported: {error}") from error
    return 0


def _said(loaded: Loaded, made: Export) -> str:
    from vitq.benchmarks.measure.on_runtimes import nearness_of, operators_of

    size, form = f"{made.bytes / 1e6:.3f} MB", made.form
    return (
        f"{made.path}: {loaded.header['method']} {loaded.header['bits']}, {size}, images {list(made.shape)}; "
        f"{form.exec}: {operators_of(form)}; {nearness_of(form)}"
    )
