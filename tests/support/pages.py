"""Pages of Markdown, run as a reader would: files are written, commands typed, Python executed, in the page's order.

A fence's language says what becomes of its block:

    python     executed, all blocks of a page in one namespace
    console    each line that starts with `$ ` is run; `title="Exit code 4"` says how it ends, 0 unless said
    output     what the block before it printed, `...` for what is left out: every word that holds a letter must be
               there, and near every number with a point another one
    yaml, toml parsed
    text       shown alone

`title="name.ext"` writes the block to that file of the page's folder instead. `title="Not run ...: why"` is left out; a
reader sees the reason above the block.
"""

from __future__ import annotations

import importlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from commands import vitq_here
from packages import install

from vitq.datasets.registry import DATASETS
from vitq.tasks.names import models

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FENCE = re.compile(r"^```(\w+)([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]*)"')
_WORD = re.compile(r"[^\s|]*[A-Za-z][^\s|]*")
_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.])")
PARSERS = {"yaml": yaml.safe_load, "toml": tomllib.loads}


class Block(NamedTuple):
    """One fenced block, and the line of the page that its content starts at."""

    language: str
    title: str
    text: str
    line: int

    @property
    def left_out(self) -> bool:
        """Whether the page says that it is not run."""
        return self.title.startswith("Not run")

    @property
    def file(self) -> str:
        """The file that it is written to; empty for what is run."""
        return self.title if re.fullmatch(r"[\w./-]+\.\w+", self.title) else ""


def blocks(text: str) -> list[Block]:
    """Every fenced block of a page; AssertionError where a fence is left open or names no language."""
    found = []
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match[2])
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Block(match[1], title[1] if title else "", match[3], line))
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(found), "a fence has no language or no end"
    return found


@contextmanager
def _a_process_of_its_own() -> Iterator[None]:
    """What a command registers (a checkpoint, a folder) is not known to the next."""
    kinds = (DATASETS, models())
    before = [dict(kind.registered) for kind in kinds]
    yield
    for kind, known in zip(kinds, before, strict=True):
        kind.registered = known  # type: ignore[assignment]


class Reader:
    """Somebody who follows a page in an empty folder, which is the current one."""

    def __init__(self, page: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.page, self.folder, self.patch = page, folder, patch
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.printed = ""

    def follow(self) -> None:
        """Every block of the page in its order; AssertionError that names the page's line."""
        for block in blocks(self.page.read_text(encoding="utf-8")):
            if block.left_out:
                assert len(block.title) > len("Not run: because"), self.at(block)
                continue
            kind = "file" if block.file else block.language
            assert hasattr(self, f"_{kind}"), f"{self.at(block)}: nothing says how a block of {kind!r} is checked"
            getattr(self, f"_{kind}")(block)

    def at(self, block: Block) -> str:
        """Where a block is."""
        return f"{self.page.name}:{block.line}"

    def _file(self, block: Block) -> None:
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if block.language in PARSERS:
            PARSERS[block.language](block.text)

    def _yaml(self, block: Block) -> None:
        yaml.safe_load(block.text)

    def _toml(self, block: Block) -> None:
        tomllib.loads(block.text)

    def _text(self, block: Block) -> None:
        pass

    def _python(self, block: Block) -> None:
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        out = io.StringIO()
        with redirect_stdout(out):
            exec(code, self.names)
        self.printed = out.getvalue()

    def _output(self, block: Block) -> None:
        missing = [word for word in _WORD.findall(block.text) if word not in self.printed]
        assert not missing, f"{self.at(block)}: {missing} not in what was printed:\n{self.printed}"
        there = [float(number) for number in _NUMBER.findall(self.printed)]
        for number in map(float, _NUMBER.findall(block.text)):
            near = any(abs(number - other) <= 2 + 0.02 * abs(other) for other in there)
            assert near, f"{self.at(block)}: nothing like {number} in what was printed:\n{self.printed}"

    def _console(self, block: Block) -> None:
        code = int(block.title.removeprefix("Exit code ")) if block.title.startswith("Exit code ") else 0
        lines = block.text.replace("\\\n", " ").splitlines()
        self.printed = ""
        for line in lines:
            assert line.startswith("$ "), f"{self.at(block)}: {line!r} is no command; show output in a block of its own"
            self._typed(shlex.split(line[2:], comments=True), code, f"{self.at(block)}: {line}")

    def _typed(self, words: list[str], code: int, where: str) -> None:
        if words[:3] == ["pip", "install", "-e"]:
            self._installed(self.folder / words[3])
        elif words[0] == "vitq":
            with _a_process_of_its_own():
                said = vitq_here(*words[1:])
            self.printed += said.out
            assert said.code == code, (where, said.code, said.out[-3000:], said.err[-3000:])
        else:
            assert words[0] == "python", f"{where}: nothing says how it is run"
            done = subprocess.run([sys.executable, *words[1:]], check=False, capture_output=True, text=True)
            self.printed += done.stdout
            assert done.returncode == code, (where, done.stdout, done.stderr)

    def _installed(self, project: Path) -> None:
        """The project's entry points on Python's path, as an editable install puts them there."""
        known = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        install(project, known["name"], known["entry-points"], {})
        self.patch.syspath_prepend(project)
        self.patch.setenv("PYTHONPATH", str(project))
        importlib.invalidate_caches()
