"""Which code decides a result: the syntax trees of the modules that are used, and of all they import inside vitq.

Comments, docstrings and layout change nothing. Imports are read from the sources, never executed, so that cells can be
planned without torch; what a registry loads by name is named by the caller as a root of its own.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_ROOT, _INIT = "vitq", "__init__.py"


def code_sha256(*roots: str, alone: Iterable[str] = ()) -> str:
    """sha256 over the modules that `roots` reach by imports, and over those of `alone` by themselves."""
    modules = sorted(reached(roots) | set(alone))
    digest = hashlib.sha256()
    for name in modules:
        digest.update(f"{name} {_tree_sha256(name)}\n".encode())
    return digest.hexdigest()


def reached(roots: Iterable[str]) -> set[str]:
    """Names of the vitq modules that these import, directly or not, themselves included."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_imports(name))
    return found


@cache
def _place(name: str) -> Path | None:
    """File of a module; None where there is none. Only the top of vitq and its rooms are found by import machinery.

    Their initializers hold nothing; deeper ones may import torch, and finding a module would run its parents.
    """
    parent, _, leaf = name.rpartition(".")
    if name.count(".") < 2:
        if parent and _place(parent) is None:
            return None
        spec = find_spec(name)
        return None if spec is None or spec.origin is None else Path(spec.origin)
    above = _place(parent)
    if above is None or above.name != _INIT:
        return None
    return next((p for p in (above.parent / f"{leaf}.py", above.parent / leaf / _INIT) if p.is_file()), None)


def _source(name: str) -> Path:
    """File of a module; ModuleNotFoundError where there is none."""
    place = _place(name)
    if place is None:
        raise ModuleNotFoundError(f"no module is called {name}")
    return place


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_source(name).read_bytes())


@cache
def _imports(name: str) -> frozenset[str]:
    """Modules of vitq that importing `name` imports: its parents, and what its statements name."""
    package = name if _source(name).name == _INIT else name.rpartition(".")[0]
    parts = name.split(".")
    found = {".".join(parts[:i]) for i in range(1, len(parts))}
    for node in _statements(_tree(name)):
        if isinstance(node, ast.Import):
            found.update(_known(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            found.add(_known(base))
            found.update(_known(f"{base}.{alias.name}") for alias in node.names if _known(base))
    return frozenset(found - {""})


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node, less what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _statements(node)


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _known(name: str) -> str:
    """The name where it is a module of vitq, else nothing."""
    return name if name.partition(".")[0] == _ROOT and _place(name) else ""


@cache
def _tree_sha256(name: str) -> str:
    return tree_sha256(_source(name).read_bytes())


def tree_sha256(source: bytes) -> str:
    """sha256 of a source's syntax tree without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = [*body[1:]] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
