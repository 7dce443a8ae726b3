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
    """Names of the vitq modules that these import, directly or not, themselves included.

    Importing a module runs the body of every package above it, and none of their functions: what those import when
    they are called is not counted.
    """
    found: dict[str, bool] = {}
    waiting = [(name, True) for name in roots]
    while waiting:
        name, called = waiting.pop()
        if found.get(name) in (True, called):
            continue
        found[name] = called
        waiting.extend(_imports(name, called))
    return set(found)


@cache
def _file(name: str) -> Path | None:
    """File of a module; None where there is none. Only the top of vitq and its rooms are found by import machinery.

    Their initializers hold nothing; deeper ones may import torch, and finding a module would run its parents.
    """
    parent, _, leaf = name.rpartition(".")
    if name.count(".") < 2:
        if parent and _file(parent) is None:
            return None
        spec = find_spec(name)
        return None if spec is None or spec.origin is None else Path(spec.origin)
    above = _file(parent)
    if above is None or above.name != _INIT:
        return None
    return next((p for p in (above.parent / f"{leaf}.py", above.parent / leaf / _INIT) if p.is_file()), None)


def _source(name: str) -> Path:
    """File of a module; ModuleNotFoundError where there is none."""
    file = _file(name)
    if file is None:
        raise ModuleNotFoundError(f"no module is called {name}")
    return file


@cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_source(name).read_bytes())


@cache
def _imports(name: str, called: bool) -> frozenset[tuple[str, bool]]:
    """What importing a module imports: its parents, and what its statements name, those in functions where `called`.

    Each with whether its functions may be called: not those of a package that is only passed through.
    """
    package = name if _source(name).name == _INIT else name.rpartition(".")[0]
    parts = name.split(".")
    found = {(".".join(parts[:i]), False) for i in range(1, len(parts))}
    for node in _statements(_tree(name), called):
        if isinstance(node, ast.Import):
            found.update((alias.name, alias.name != _ROOT) for alias in node.names if _known(alias.name))
        elif isinstance(node, ast.ImportFrom) and _known(base := _base(node, package)):
            inside = {f"{base}.{alias.name}" for alias in node.names}
            modules = {each for each in inside if _known(each)}
            found.add((base, modules != inside and base != _ROOT))
            found.update((each, True) for each in modules)
    return frozenset(found)


def _statements(tree: ast.AST, called: bool) -> Iterator[ast.AST]:
    """Every node, less what only a type checker reads and, where nothing is `called`, the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if not called and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        yield node
        yield from _statements(node, called)


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _known(name: str) -> bool:
    """Whether this is a module of vitq."""
    return name.partition(".")[0] == _ROOT and _file(name) is not None


@cache
def _tree_sha256(name: str) -> str:
    return tree_sha256(_source(name).read_bytes())


def tree_sha256(source: bytes) -> str:
    """sha256 of a source's syntax tree without docstrings, the same in every Python."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and _is_text(node.body):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(_spelled(tree).encode()).hexdigest()


def _spelled(node: object) -> str:
    """A tree as text, less fields and parts of f-strings that are empty.

    `ast.dump` shows empty ones or not by the version of Python, and versions add some: code would seem changed.
    """
    if isinstance(node, ast.JoinedStr):
        node.values = [part for part in node.values if getattr(part, "value", None) != ""]
    if isinstance(node, ast.AST):
        fields = [f"{name}={_spelled(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({', '.join(fields)})"
    return f"[{', '.join(map(_spelled, node))}]" if isinstance(node, list) else repr(node)


def _is_text(body: list[ast.stmt]) -> bool:
    """Whether a body begins with a docstring."""
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
