"""Numbers of a suite's recipes that cards and the suites' own comments tell are those that the suite runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest
import yaml

from vitq.benchmarks.plan.suite import MethodEntry, load_suite, shipped_suites
from vitq.methods.cards import Card, all_cards

SUITES = "smoke|proxy|digits-seeds|accounting"
"""Names of suites that are no other word of a card's."""
TOLD = re.compile(
    rf"\b({SUITES}) trains (\d+) epochs(?: in batches of (\d+))?(?: at lr ([\d.]+))?(?: on (\d+) images)?"
)
"""How a card tells a recipe."""
CARDS = all_cards()
NAMES = sorted(CARDS)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


def recipe(entry: MethodEntry) -> dict[str, Any]:
    """Every option of an entry, its own or the default."""
    return {name: known.recorded for name, known in CARDS[entry.method].options.items()} | entry.options


def untold(card: Card) -> list[str]:
    """Clauses that name a suite and a number, in words that no test reads."""
    clauses = [part for text in texts(card.model_dump()) for part in re.split(r"[;.](?:\s|$)", TOLD.sub("", text))]
    return [part for part in clauses if re.search(rf"\b({SUITES})\b", part) and re.search(r"\d", part)]


def wrong(card: Card) -> list[str]:
    """What a card tells of a suite's recipe for its method, and the suite does otherwise."""
    found = []
    for said in TOLD.finditer(" ".join(texts(card.model_dump()))):
        suite, epochs, batch, lr = said[1], int(said[2]), said[3], said[4]
        entry = next(each for each in load_suite(suite).methods if each.method == card.name and not each.variant)
        given, images = recipe(entry), entry.calibration or load_suite(suite).calibration
        right = given["epochs"] == epochs and lr in (None, f"{given['lr']:g}")
        if not right or batch not in (None, str(images.train_batch)):
            found.append(
                f"{said[0]}: {suite} has {given['epochs']} at {given['lr']:g}, batches of {images.train_batch}"
            )
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_card_tells_a_suites_recipe_as_the_suite_has_it(name: str) -> None:
    assert wrong(CARDS[name]) == []
    assert untold(CARDS[name]) == []


def test_binary_vits_card_tells_recipes_and_a_wrong_one_is_found() -> None:
    card = CARDS["binary_vit"]
    told = [found[1] for text in card.notes for found in TOLD.finditer(text)]
    assert told == ["smoke", "digits-seeds", "proxy"]
    other = card.model_copy(update={"notes": ["smoke trains 12 epochs in batches of 32.", "Of proxy the 3rd is best."]})
    assert len(wrong(other)) == 1
    assert untold(other) == ["Of proxy the 3rd is best"]


def test_a_full_recipe_that_a_card_tells_is_the_default() -> None:
    said = re.search(r"full recipe: (\d+) epochs at lr ([\d.]+)", " ".join(CARDS["binary_vit"].notes))
    options = CARDS["binary_vit"].options
    assert said is not None
    assert [said[1], said[2]] == [str(options["epochs"].default), str(options["lr"].default)]


Found = Callable[[dict[str, Any]], list[float]]
COMMENTS: dict[str, Found] = {
    r"(\d+) generation steps": lambda o: [2 * o["iterations"]],
    r"(\d+) cycles of (\d+) image and (\d+) training": lambda o: [o["cycles"], o["image_steps"], o["training_steps"]],
    r"(\d+) epochs": lambda o: [o["epochs"]],
}
"""How comments tell a recipe, and what of the next entry they tell; `instead of` these numbers are the defaults."""


def comments(suite: str) -> Iterator[tuple[str, MethodEntry]]:
    """Each comment on an entry of a suite's methods, and that entry."""
    text = (resources.files("vitq.benchmarks") / "suites" / f"{suite}.yaml").read_text("utf-8")
    methods = next(value for key, value in yaml.compose(text).value if key.value == "methods")
    lines, end = text.splitlines(), methods.start_mark.line
    for node, entry in zip(methods.value, load_suite(suite).methods, strict=True):
        above = [line.strip(" #") for line in lines[end : node.start_mark.line] if line.lstrip().startswith("#")]
        end = node.end_mark.line
        if above:
            yield " ".join(above), entry


def told_wrongly(comment: str, entry: MethodEntry) -> list[str]:
    now, usual = recipe(entry), {name: known.default for name, known in CARDS[entry.method].options.items()}
    short, _, full = comment.replace(",", "").partition(" instead of ")
    for pattern, found in COMMENTS.items():
        said = re.match(pattern, short)
        if said:
            times = re.search(r"at (\d+) times the learning rate", comment)
            rate = [] if times is None else [float(times[1])]
            defaults = [float(n) for n in re.findall(r"\d+", full)[: len(said.groups())]] if full else []
            told = [*map(float, said.groups()), *rate, *defaults]
            is_so = [*found(now), *([now["lr"] / usual["lr"]] if rate else []), *(found(usual) if defaults else [])]
            return [] if told == pytest.approx(is_so) else [f"{comment}: {is_so}"]
    return []


@pytest.mark.parametrize("suite", shipped_suites())
def test_a_suites_comment_tells_the_recipe_of_the_entry_below(suite: str) -> None:
    assert [fault for comment, entry in comments(suite) for fault in told_wrongly(comment, entry)] == []


def test_comments_are_found_and_a_wrong_one_is_told() -> None:
    told = dict(comments("smoke"))
    said = "5 epochs of batches of 32 at 4 times the learning rate, instead of 300."
    entry = told[said]
    assert told_wrongly(said, entry) == []
    for right, false in (("5 epochs", "12 epochs"), ("at 4", "at 5"), ("of 300", "of 200")):
        assert len(told_wrongly(said.replace(right, false), entry)) == 1
