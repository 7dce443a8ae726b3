"""The rooms' modules as they are written: where each lies in the package, and everything that it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("methods", "datasets", "tasks", "benchmarks", "reports")
HOMES = {"vitq": ROOT / "src" / "vitq", **{room: ROOT / room for room in ROOMS}}
"""Folders of the rooms; `vitq` is the package itself."""
NOT_SHIPPED = HOMES["benchmarks"] / "timings"


class Import(NamedTuple):
    """One name that a module imports.

    `name` is the whole dotted name, with what is taken from the module; `module` is without it. `lazy` where it stands
    in a function, so that importing the module does not import it; `typing` where it is for types alone and never runs.
    """

    name: str
    module: str
    line: int
    lazy: bool
    typing: bool = False

    @property
    def room(self) -> str | None:
        """The room of ours that it leads to, or None for other people's packages."""
        parts = self.name.split(".")
        if parts[0] != "vitq":
            return None
        return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "vitq"

    @property
    def library(self) -> str:
        """The top-level package."""
        return self.name.partition(".")[0]


class Module(NamedTuple):
    """A file of a room with its tree."""

    room: str
    path: Path
    tree: ast.Module

    @property
    def place(self) -> str:
        """The path from the repository's root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders and file from the room's own folder."""
        return self.path.relative_to(HOMES[self.room]).parts


CONFIGS = HOMES["tasks"] / "configs"
"""Models in the form of mm's configurations: data, which no one imports."""


def modules() -> list[Module]:
    """Every module of every room."""
    return [
        Module(room, path, ast.parse(path.read_text(encoding="utf-8")))
        for room, home in HOMES.items()
        for path in sorted(home.rglob("*.py"))
        if path.parent != CONFIGS
    ]


def imports(tree: ast.Module) -> list[Import]:
    """Everything imported anywhere in a module: in functions, under TYPE_CHECKING, and by `import_module`."""
    return list(_walk(tree, lazy=False, typing=False))


def _walk(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        yield from (each._replace(typing=typing) for each in _of(child, lazy))
        inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        types = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        yield from _walk(child, lazy or inner, typing or (types and not child.orelse))


def _of(node: ast.AST, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, alias.name, node.lineno, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield from (Import(f"{module}.{alias.name}", module, node.lineno, lazy) for alias in node.names)
    elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
        name = _begins(node.args[0])
        if name:
            yield Import(name, name, node.lineno, lazy)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _begins(node: ast.expr) -> str:
    """A text, or what is known of one that is put together: its beginning."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return str(node.value).rstrip(".") if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def private_uses(tree: ast.Module) -> list[tuple[int, str]]:
    """Names beginning with one underscore that are taken from another module of ours, with their lines."""
    found = [(each.line, each.name) for each in imports(tree) if each.room and _private(each.name.rpartition(".")[2])]
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vitq"
        for alias in node.names
        if alias.name.islower()
    }
    return found + [
        (node.lineno, f"{node.value.id}.{node.attr}")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id in ours and _private(node.attr)
    ]


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
