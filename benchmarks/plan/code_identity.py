"""Which code decides a result: the syntax trees of the modules that are used, and of all they import inside vitq.

What another package offers (a method, a data set) is followed inside that package too.

Comments, docstrings and layout change nothing. Imports are read from the sources, never executed, so that cells can be
planned without torch; what a registry loads by name is named by the caller as a root of its own. Code that decides a
result and cannot be read is a BadInputError: a result known by half of its code would be taken for another's.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vitq.errors import BadInputError

_ROOT, _INIT = "vitq", "__init__.py"


def code_sha256(*roots: str, alone: Iterable[str] = ()) -> str:
    """sha256 over the modules that `roots` reach by imports, and over those of `alone` by themselves.

    BadInputError in one line where one of them has no source that can be read.
    """
    modules = sorted(reached(roots) | set(alone))
    digest = hashlib.sha256()
    for name in modules:
        digest.update(f"{name} {_tree_sha256(name)}\n".encode())
    return digest.hexdigest()


def reached(roots: Iterable[str]) -> set[str]:
    """Names of the modules of vitq, and of their own packages, that these import, directly or not; and they themselves.

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
    """File of a module; None where there is none. Only tops and the rooms of vitq are found by import machinery.

    The initializers of vitq and its rooms hold nothing; others may import torch, and finding a module would run its
    parents. BadInputError for a folder of modules that has no initializer.
    """
    parent, _, leaf = name.rpartition(".")
    if not parent or parent == _ROOT:
        return _found(name) if not parent or _file(parent) is not None else None
    above = _file(parent)
    if above is None or above.name != _INIT:
        return None
    file = next((p for p in (above.parent / f"{leaf}.py", above.parent / leaf / _INIT) if p.is_file()), None)
    if file is None:
        _refuse_modules_in(above.parent / leaf)
    return file


def _found(name: str) -> Path | None:
    """File of a module by import machinery; None where there is none, or none of Python."""
    try:
        spec = find_spec(name)
    except ValueError:  # `__main__` of a script
        return None
    if spec is None:
        return None
    if spec.origin is None:
        for folder in spec.submodule_search_locations or ():
            _refuse_modules_in(Path(folder))
        return None
    return Path(spec.origin) if spec.origin.endswith(".py") else None


def _refuse_modules_in(folder: Path) -> None:
    """BadInputError where modules lie in or below a folder, which has no initializer.

    Python imports them all the same, from wherever on its path such a folder is: which code that is cannot be known.
    """
    if folder.is_dir() and any(folder.rglob("*.py")):
        raise BadInputError(f"{folder} has no {_INIT}: add one, it may be empty, so that its code is part of a result")


def _source(name: str) -> Path:
    """File of a module; BadInputError says where it should be."""
    file = _file(name)
    if file is not None:
        return file
    parent, _, leaf = name.rpartition(".")
    if not parent:
        raise BadInputError(f"no package {name!r} with a source can be found: correct its name or install it")
    if _source(parent).name != _INIT:
        raise BadInputError(f"{parent} is a module, not a package, and has no module {leaf!r}: correct its name")
    raise BadInputError(f"package {parent} has no module {leaf!r} with a source: correct its name or add {leaf}.py")


@cache
def _tree(name: str) -> ast.Module:
    """The syntax tree of a module; BadInputError for a source that cannot be parsed."""
    file = _source(name)
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise BadInputError(f"{file}{line}: {error.msg}: correct it") from None
    except ValueError as error:  # a null byte, before Python 3.12
        raise BadInputError(f"{file}: {error}: correct it") from None


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
            found.update((alias.name, alias.name != _ROOT) for alias in node.names if _known(alias.name, parts[0]))
        elif isinstance(node, ast.ImportFrom) and _known(base := _base(node, package), parts[0]):
            inside = {f"{base}.{alias.name}" for alias in node.names}
            modules = {each for each in inside if _known(each, parts[0])}
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


def _known(name: str, own: str) -> bool:
    """Whether this is a module of vitq, or of the top package `own`."""
    return name.partition(".")[0] in (_ROOT, own) and _file(name) is not None


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
