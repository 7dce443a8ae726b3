"""The program `vitq` and its commands.

Everything heavy is imported inside the command that needs it, so that `--help` is instant.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vitq.benchmarks.cli import gating, own_model, reading, running, timing
from vitq.benchmarks.plain import run_plainly

app = typer.Typer(
    name="vitq",
    help="Reproducibility benchmark suite for quantized vision transformers.\n\n"
    "Exit codes: 0 good, 1 regression, 2 usage or bad input, 3 some cells failed, 4 nothing was compared.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = {
    "list": reading.list_things,
    "verify": running.verify_inputs,
    "run": running.run_suite,
    "quantize": own_model.quantize_model,
    "evaluate": own_model.evaluate_model,
    "sensitivity": own_model.show_sensitivity,
    "latency": timing.time_runtimes,
    "peaks": timing.measure_peaks,
    "export": timing.export_model,
    "compare": reading.compare_figures,
    "report": reading.write_report,
    "gate": gating.gate_results,
    "show": reading.show_record,
    "merge": reading.merge_results,
    "clean": reading.clean_results,
}
"""In the order of `vitq --help`."""
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def _version(wanted: bool) -> None:
    if wanted:
        from vitq import __version__

        typer.echo(f"vitq {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Entry point of the `vitq` command."""
    sys.exit(run_plainly(app))
