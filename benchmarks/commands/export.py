"""`vitq export`: a stored model as ONNX in QDQ form, loaded again and compared with ours before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitq.benchmarks.commands.stored_model import stored_model
from vitq.benchmarks.runtimes.registry import load
from vitq.errors import BadInputError, UnsupportedError
from vitq.words import nearest

if TYPE_CHECKING:
    from vitq.benchmarks.measure.forms import Form
    from vitq.saved import Loaded

FORMATS = ("onnx",)
RUNTIMES = ("onnxruntime", "openvino")
"""Runtimes that a file may be written for: they differ in where a product's zero points stand, not in what it gives."""


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
    _check(to, out, runtime)
    path = stored_model(wanted, suite, results, site)
    part = out.with_name(f"{out.name}.part")
    try:
        print(_written(path, part, out, runtime, batch, threads))
        part.replace(out)
    except UnsupportedError as error:
        raise BadInputError(f"{path} cannot be exported: {error}") from error
    except OSError as error:
        raise BadInputError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return 0


def _check(to: str, out: Path, runtime: str) -> None:
    """Refuse what can be refused before anything is loaded."""
    if to not in FORMATS:
        raise BadInputError(f"--to is {to!r}; {nearest(to, FORMATS)}")
    if runtime not in RUNTIMES:
        raise BadInputError(f"--runtime is {runtime!r}; {nearest(runtime, RUNTIMES)}")
    if out.exists():
        raise BadInputError(f"{out} is there already: remove it, or give another name")
    if not out.parent.is_dir():
        raise BadInputError(f"{out.parent} is no folder")
    for name in ("onnxruntime", runtime):  # onnxruntime's also says whether onnx is there
        missing = load(name).missing()
        if missing:
            raise BadInputError(missing)


def _written(path: Path, part: Path, out: Path, runtime: str, batch: int, threads: int) -> str:
    """Write the model and load what was written; returns what is said of it."""
    from vitq.benchmarks.measure.forms import checked, example_of
    from vitq.benchmarks.runtimes.onnx_export.export import to_onnx, unsupported
    from vitq.saved import load_quantized

    loaded = load_quantized(path)
    example = example_of(loaded.header, batch)
    reason = unsupported(loaded.model, loaded.exec)
    if reason:
        raise UnsupportedError(reason)
    part.write_bytes(to_onnx(loaded.model, example, zeros_apart=runtime == "openvino").SerializeToString())
    compiled = load(runtime).read(part, quantized=loaded.exec != "fp32", threads=threads)  # type: ignore[attr-defined]
    return _said(out, part, loaded, checked(loaded.model, loaded.exec, compiled, example), example)


def _said(out: Path, part: Path, loaded: Loaded, form: Form, example: Any) -> str:
    from vitq.benchmarks.measure.on_runtimes import nearness_of, operators_of

    size = f"{part.stat().st_size / 1e6:.3f} MB"
    return (
        f"{out}: {loaded.header['method']} {loaded.header['bits']}, {size}, images {list(example.shape)}; "
        f"{form.exec}: {operators_of(form)}; {nearness_of(form)}"
    )
