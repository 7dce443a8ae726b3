"""The `-k` expressions that pick cells: words and patterns joined by and, or, not and ( ).

Read by Dijkstra's shunting-yard algorithm into postfix order and evaluated on a stack, so that no depth of nesting can
exhaust Python's own stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vitq.errors import BadInputError
from vitq.globs import is_glob, matches_part
from vitq.words import short

MAX_LENGTH = 100_000
_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_BINDS = {"or": 1, "and": 2, "not": 3}
_Step = tuple[str, str]
"""("word", what is looked for) or ("do", and | or | not)."""


def picker(expression: str) -> Callable[[str], bool]:
    """A test of cell ids from `repq and W4A4 and not (swin or seed1)`, case ignored.

    A word is a substring; one with `*` or `?` is a pattern of a part of the id, of parts in a row, or of the whole.

    Raises BadInputError for an expression that cannot be read.
    """
    if len(expression) > MAX_LENGTH:
        raise BadInputError(f"-k has {len(expression):,} characters, more than {MAX_LENGTH:,}")
    tokens = _TOKEN.findall(expression)
    if not tokens:
        raise BadInputError("-k needs an expression, as in -k 'repq* and W4A4'")
    steps = _postfix(tokens, expression)
    return lambda text: _holds(steps, text.lower())


def _unreadable(expression: str, token: str) -> BadInputError:
    return BadInputError(f"-k {short(expression)} cannot be read at {token!r}: join words with and, or, not and ( )")


def _postfix(tokens: list[str], whole: str) -> list[_Step]:
    steps: list[_Step] = []
    waiting: list[str] = []
    operand_wanted = True
    for token in tokens:
        opens = token in ("not", "(")
        joins = token in ("and", "or", ")")
        if operand_wanted == joins:  # an operand where a join is due, or the other way round
            raise _unreadable(whole, token)
        if opens:
            waiting.append(token)
        elif joins:
            _settle(token, waiting, steps, whole)
            operand_wanted = token != ")"
        else:
            steps.append(("word", token.lower()))
            operand_wanted = False
    if operand_wanted:
        raise _unreadable(whole, "its end")
    _settle("", waiting, steps, whole)
    return steps


def _settle(token: str, waiting: list[str], steps: list[_Step], whole: str) -> None:
    """Move operators that bind tighter than `token` to the steps; `)` and the end take all, to the ( or the start."""
    while waiting and waiting[-1] != "(" and _BINDS[waiting[-1]] >= _BINDS.get(token, 0):
        steps.append(("do", waiting.pop()))
    if token in _BINDS:
        waiting.append(token)
    elif token == ")":
        if not waiting:
            raise _unreadable(whole, ")")
        waiting.pop()
    elif waiting:
        raise _unreadable(whole, "a missing )")


def _holds(steps: list[_Step], text: str) -> bool:
    values: list[bool] = []
    for kind, word in steps:
        if kind == "word":
            values.append(matches_part(text, word) if is_glob(word) else word in text)
        elif word == "not":
            values[-1] = not values[-1]
        else:
            right = values.pop()
            values[-1] = (values[-1] and right) if word == "and" else (values[-1] or right)
    return values[0]
