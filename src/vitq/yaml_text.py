"""YAML text of a user, read strictly: plain words as YAML 1.2 has them, and nothing that could mean two things.

YAML 1.1, which PyYAML reads, takes `1:30` for 90, `no` for false, `010` for 8 and `1e-5` for text; YAML 1.2 does not.
Words that the two read differently are refused with their line, except exponents, which 1.1 alone mistakes for text.
Size, depth and what aliases unfold to are bounded before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vitq.errors import BadInputError

MAX_BYTES = 1 << 18
MAX_DEPTH = 30
MAX_NODES = 100_000
"""Values after aliases are unfolded."""

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TWO_MEANINGS = (
    (re.compile(r"(yes|no|on|off|y|n)", re.IGNORECASE), "write true or false"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "write the number itself"),
    (re.compile(r"[-+]?0[0-9]+"), "write the number without the leading 0"),
    (re.compile(r"[-+]?0[bBoOxX][0-9a-fA-F_]+"), "write the number in decimal digits"),
    (re.compile(r"[-+]?[0-9][0-9_.]*_[0-9_.]*([eE][-+]?[0-9]+)?"), "write the number without _"),
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema on PyYAML's safe loader."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own name and type)


for _tag, _pattern, _first in (
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF"),
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
    ("merge", re.compile(r"<<"), "<"),
):
    _whole = re.compile(f"(?:{_pattern.pattern})$")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, list(_first))


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    """A whole number: decimal digits alone, 1.1's octal and sexagesimal forms having been refused."""
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def read_text(path: Path) -> str:
    """The text of a file; BadInputError for a folder, device or pipe, for too large a file and for other encodings."""
    if not path.is_file():
        raise BadInputError(f"{path} is no regular file: give a .yaml file")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BadInputError(f"{path} is larger than {MAX_BYTES >> 10} KiB, which no such file is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInputError(f"{path} line {line} is not UTF-8: save the file as UTF-8") from None


def parse(text: str, shown: str) -> tuple[Any, yaml.Node | None]:
    """A document as plain values and as nodes, which know their lines; `shown` names it.

    Raises BadInputError with the line for what is no YAML, a key given twice, a word with two meanings, custom tags,
    and nesting or aliases beyond bounds.
    """
    try:
        _bounded(text, shown)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _bounded_aliases(node, shown)
        for each in _nodes(node):
            _check(each, shown)
        return loader.construct_document(node), node
    except yaml.YAMLError as error:
        raise BadInputError(_not_yaml(error, text, shown)) from None
    except (ValueError, OverflowError, RecursionError) as error:  # dates that do not exist, `!!int x`, huge numbers
        raise BadInputError(f"{shown} is not YAML that vitq can use: {_first_line(error)}") from None


def line_of(node: Any, path: Any) -> int:
    """Line (from 1) of the deepest node that `path` reaches; a missing key is reported at its parent."""
    line = node.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                continue
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1


def _not_yaml(error: yaml.YAMLError, text: str, shown: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{shown} line {line} holds the control character U+{int(error.character):04X}: remove it"
    where = f" line {mark.line + 1}" if mark else ""
    return f"{shown}{where} is not YAML: {getattr(error, 'problem', None) or _first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _bounded(text: str, shown: str) -> None:
    """Refuse nesting that would exhaust the stack; events come one by one, whatever the depth."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = getattr(event.start_mark, "line", 0) + 1
            raise BadInputError(f"{shown} line {line} is nested more than {MAX_DEPTH} deep, which no such file needs")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Every node once, in the order of the text."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += reversed(_children(node))


def _bounded_aliases(root: yaml.Node, shown: str) -> None:
    """Refuse aliases that contain themselves or unfold to more values than a file of a user has."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: frozenset[int]) -> int:
        if id(node) in above or len(above) > MAX_DEPTH:
            line = node.start_mark.line + 1
            raise BadInputError(f"{shown} line {line}: an alias contains itself or nests too deep; write it out")
        if id(node) not in sizes:
            sizes[id(node)] = 1 + sum(size(child, above | {id(node)}) for child in _children(node))
        if sizes[id(node)] > MAX_NODES:
            line = node.start_mark.line + 1
            raise BadInputError(f"{shown} line {line} holds more than {MAX_NODES:,} values, its aliases unfolded")
        return sizes[id(node)]

    size(root, frozenset())


def _check(node: yaml.Node, shown: str) -> None:
    if isinstance(node, yaml.MappingNode):
        _no_twin_keys(node, shown)
    elif isinstance(node, yaml.ScalarNode) and node.style is None and node.tag != "tag:yaml.org,2002:merge":
        for pattern, remedy in _TWO_MEANINGS:
            if pattern.fullmatch(node.value):
                raise BadInputError(
                    f"{shown} line {node.start_mark.line + 1}: {node.value} means different things to different "
                    f"readers of YAML; {remedy}, or put it in quotes where it is a word"
                )


def _no_twin_keys(node: yaml.MappingNode, shown: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in lines:
                raise BadInputError(f"{shown} line {line}: {key.value!r} was given before, in line {lines[key.value]}")
            lines[key.value] = line
