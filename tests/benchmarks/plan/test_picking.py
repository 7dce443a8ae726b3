"""`-k`: words, patterns, and, or, not and parentheses, held to Python's own reading of the same expression."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitq.benchmarks.plan.picking import picker
from vitq.globs import fits, is_glob, matches, matches_part

IDS = st.lists(st.text("ab[]1", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join)
WORDS = st.text("abAB*?[]1/", min_size=1, max_size=6)
EXPRESSIONS = st.recursive(
    WORDS.map(lambda word: ("word", word)),
    lambda inner: st.one_of(st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)),
    max_leaves=8,
)


def plainly(name: str, pattern: str) -> bool:
    """A pattern by its definition, character by character."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(plainly(name[i:], pattern[1:]) for i in range(len(name) + 1))
    return bool(name) and pattern[0] in ("?", name[0]) and plainly(name[1:], pattern[1:])


def word_holds(path: str, word: str) -> bool:
    path, word = path.lower(), word.lower()
    if "*" not in word and "?" not in word:
        return word in path
    parts = path.split("/")
    runs = ("/".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1))
    return any(plainly(run, word) for run in runs)


def written(tree: tuple) -> str:  # type: ignore[type-arg]
    if tree[0] == "word":
        return str(tree[1])
    if tree[0] == "not":
        return f"not ({written(tree[1])})"
    return f"({written(tree[1])}) {tree[0]} ({written(tree[2])})"


def holds(tree: tuple, path: str) -> bool:  # type: ignore[type-arg]
    if tree[0] == "word":
        return word_holds(path, tree[1])
    if tree[0] == "not":
        return not holds(tree[1], path)
    left, right = holds(tree[1], path), holds(tree[2], path)
    return (left and right) if tree[0] == "and" else (left or right)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, IDS)
def test_an_expression_picks_what_its_words_say(tree: tuple, path: str) -> None:  # type: ignore[type-arg]
    assert picker(written(tree))(path) is holds(tree, path)


@settings(max_examples=300, deadline=None)
@given(st.text("ab[!].*?", max_size=6), st.text("abAB[]!.*?", max_size=6))
def test_a_pattern_is_a_star_a_question_mark_and_nothing_else(name: str, pattern: str) -> None:
    assert matches(name, pattern) is plainly(name.lower(), pattern.lower())


@pytest.mark.parametrize(
    ("expression", "there"),
    [
        ("repq*", True),
        ("REPQ*", True),
        ("repq_vit[[]channel]", False),
        ("repq_vit[channel]", True),
        ("repq* and W4* and not swin", True),
        ("digits_v", True),
        ("digits_v?t", True),
        ("digits_v?", False),
        ("*/digits/*", True),
        ("classification/digits", True),
        ("*W4A?*", True),
        ("vit*", False),
        ("seed0", True),
        ("seed?/*", False),
    ],
)
def test_patterns_fit_whole_parts_and_words_any_part_of_one(expression: str, there: bool) -> None:
    assert picker(expression)("repq_vit[channel]/classification/digits/digits_vit/W4A4/seed0") is there


def test_many_stars_take_no_time() -> None:
    assert not matches_part("a" * 200, "*a" * 60 + "b")
    assert not picker("*a" * 1000 + "b")("a" * 100)


def test_a_plain_word_of_a_list_is_part_of_a_name() -> None:
    assert fits("vit_tiny", "TINY")
    assert not fits("vit_tiny", "tiny*")
    assert is_glob("a*")
    assert not is_glob("a[b]")
