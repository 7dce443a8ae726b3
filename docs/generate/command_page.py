"""The command line as its own help has it: a section a command, with its arguments and options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from vitq import escape
from vitq.benchmarks.cli import app


def commands() -> str:
    """Every command, nested ones by their full name, in the order of `vitq --help`."""
    program = typer.main.get_command(app)
    own = "\n".join(_table(program, typer.Context(program, info_name="vitq")))
    return "\n\n".join([own, *(_section(path, command) for path, command in _all("vitq", program))])


def command_names() -> list[str]:
    """Every command that can be typed, without the word vitq."""
    return [path.removeprefix("vitq ") for path, _ in _all("vitq", typer.main.get_command(app))]


def _all(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Commands by their full name; typer's own copy of click has no name to type them by."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        if not inner.hidden:
            yield from _all(f"{path} {name}", inner)


def _section(path: str, command: Any) -> str:
    context = typer.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    told = escape.markdown(" ".join((command.help or "").split()))
    heading = f"## {path.removeprefix('vitq ')}"
    return "\n".join([heading, "", told, "", f"    {usage}", "", *_table(command, context)])


def _table(command: Any, context: typer.Context) -> list[str]:
    """Lines of a table of a command's arguments and options."""
    rows = [record for record in (_record(p, context) for p in command.get_params(context)) if record]
    return ["| option | what |", "|:--|:--|", *(f"| {name} | {what} |" for name, what in rows)]


def _record(parameter: Any, context: typer.Context) -> tuple[str, str] | None:
    """Names and help; click gives an argument no help record, typer's has one."""
    record = parameter.get_help_record(context)
    if record is None or getattr(parameter, "hidden", False):
        return None
    name, what = (" ".join(text.split()) for text in record)
    return f"`{name.replace('|', chr(0x2502))}`", escape.markdown(what)
