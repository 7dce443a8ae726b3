"""Ending the command line plainly: one line for whatever the user or the system refused, and the right exit code."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TextIO, cast

import typer

from vitq.entry import STOPPED, STOPPED_LINE
from vitq.errors import BadInputError
from vitq.escape import line

GOOD, REGRESSION, BAD_INPUT, SOME_FAILED, NOTHING_COMPARED, PIPE_CLOSED = 0, 1, 2, 3, 4, 141
# typer brings a click of its own or takes the installed one; BadParameter's grandparent is
# what all of its usage errors are
_CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]


def command_line() -> str:
    """The command as a shell would take it, for the record; arguments that are not UTF-8 are shown escaped."""
    return line(shlex.join(["vitq", *sys.argv[1:]]))


def say(text: str) -> None:
    """One line on standard error, behind the program's name."""
    with contextlib.suppress(OSError, ValueError):
        typer.echo(f"vitq: {line(text)}", err=True)


def plain_errors(command: Callable[..., int]) -> Callable[..., None]:
    """Turn bad input, a file the system refuses and Ctrl-C into a line, and end with the command's exit code."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs)
        except BadInputError as error:
            say(str(error))
            code = BAD_INPUT
        except KeyboardInterrupt:
            say(STOPPED_LINE.removeprefix("vitq: "))
            code = STOPPED
        except OSError as error:
            if error.filename is None:
                raise
            say(f"{os.fsdecode(error.filename)}: {error.strerror}")
            code = BAD_INPUT
        raise typer.Exit(code)

    return run


class _OutputError(Exception):
    """Standard output could not be written."""


class _Output:
    """Standard output whose failures are told from those of every other file."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _output_errors():
            return int(self._stream.write(text))

    def flush(self) -> None:
        with _output_errors():
            self._stream.flush()


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _OutputError from error


def run_plainly(app: typer.Typer) -> int:
    """The exit code of the command line; usage errors are a line, and so is output that cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 has no ± and no †
    before = sys.stdout
    if before is not None:
        sys.stdout = cast("TextIO", _Output(before))
    try:
        return _code(app)
    except KeyboardInterrupt:
        say(STOPPED_LINE.removeprefix("vitq: "))
        return STOPPED
    except _OutputError as error:
        return _not_written(error.__cause__)
    finally:
        sys.stdout = before


def _code(app: typer.Typer) -> int:
    try:
        code = int(app(standalone_mode=False, prog_name="vitq") or 0)
    except _CLICK_ERROR as error:
        code = _usage(error)
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _usage(error: Any) -> int:
    """The error's line; a command without arguments shows its help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        typer.echo(context.get_help(), err=True)
        return BAD_INPUT
    where = f"; see `{context.command_path} --help`" if context is not None else ""
    say(error.format_message().rstrip(".") + where)
    return BAD_INPUT


def _not_written(error: BaseException | None) -> int:
    """Say that standard output failed, and let the interpreter's own last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    say(f"standard output cannot be written: {getattr(error, 'strerror', error)}")
    return BAD_INPUT
