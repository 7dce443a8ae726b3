"""A word that is a name and a path too is refused in one line that says how to write either, in Python and a shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import vitq_here
from own_things import CLASSES, images, labelled, photographs, small_vit

import vitq
from vitq.datasets.digits import DIGITS
from vitq.datasets.registry import DATASETS

FOLDER = r"'digits' is the name of a data set, and a folder is there too: write '\./digits' for the folder, "
BOTH = FOLDER + "'dataset:digits' for the data set"
MODEL = (
    "'digits_vit' is the name of a model, and a file is there too: write './digits_vit' for the file, or move it away"
)
USES: dict[str, Callable[[str], object]] = {
    "quantize": lambda word: vitq.quantize("digits_vit", "minmax", bits="W8A8", data=word),
    "quantize, train": lambda word: vitq.quantize(
        small_vit(), "i_vit", bits="W8A8", data=images(), train=word, options={"epochs": 1}
    ),
    "evaluate": lambda word: vitq.evaluate("digits_vit", word, limit=20),
    "sensitivity": lambda word: vitq.sensitivity("digits_vit", word, bits="W4A4", limit=20),
    "sensitivity, calibration": lambda word: vitq.sensitivity(
        small_vit(), labelled(), bits="W4A4", calibration_data=word
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITQ_SITE", raising=False)
    return tmp_path


@pytest.mark.parametrize("use", USES)
def test_data_that_is_a_name_and_a_folder_is_refused(use: str, here: Path) -> None:
    photographs(here / "digits", each=6)
    with pytest.raises(vitq.BadInputError, match=BOTH):
        USES[use]("digits")


def test_a_data_set_of_this_process_is_refused_beside_a_folder_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setitem(DATASETS.registered, "photographs", replace(DIGITS, name="photographs"))
    assert vitq.evaluate("digits_vit", "photographs", limit=20).n == 20
    photographs(here / "photographs", each=6)
    with pytest.raises(vitq.BadInputError, match="'photographs' is the name of a data set, and a folder is there too"):
        vitq.evaluate("digits_vit", "photographs", limit=20)


def test_each_is_had_by_the_words_of_the_line(here: Path) -> None:
    photographs(here / "digits", each=6)
    assert vitq.evaluate("digits_vit", "dataset:digits", limit=20).samples[0].isdigit()
    for folder in ("./digits", Path("digits"), here / "digits"):
        assert vitq.evaluate(small_vit(), folder).samples[0].startswith(CLASSES[0])


def test_a_file_is_no_folder_of_images_and_leaves_the_name_alone(here: Path) -> None:
    (here / "digits").touch()
    assert vitq.evaluate("digits_vit", "digits", limit=20).n == 20


def test_a_data_set_that_is_none_is_told_with_the_nearest() -> None:
    with pytest.raises(vitq.BadInputError, match="no data set is called 'digit'; did you mean 'digits'"):
        vitq.evaluate("digits_vit", "dataset:digit")


@pytest.mark.parametrize("word", ["labels", "classes"])
def test_what_is_of_a_folder_is_refused_of_a_data_set(word: str, here: Path) -> None:
    (here / "own.csv").touch()
    with pytest.raises(vitq.BadInputError, match=f"{word}= is of a folder of your own: data set digits knows its"):
        vitq.evaluate("digits_vit", "digits", **{word: "own.csv"})


def test_the_command_line_tells_a_data_set_from_a_folder(here: Path) -> None:
    photographs(here / "digits", each=6, classes=tuple("abcdefghij"))
    by_name = vitq_here("evaluate", "digits_vit", "--dataset", "digits", "--limit", 20, "--format", "csv", "-q")
    packaged = vitq_here("evaluate", "digits_vit", "--limit", 20, "--format", "csv", "-q")
    folder = vitq_here("evaluate", "digits_vit", "--data", "digits", "--format", "csv", "-q")
    assert by_name.code == packaged.code == folder.code == 0, (by_name, packaged, folder)
    assert by_name.out == packaged.out
    assert ",20" in by_name.out
    assert ",20" not in folder.out


@pytest.mark.parametrize(
    "call",
    [
        lambda: vitq.quantize("digits_vit", "minmax", bits="W8A8", data="digits"),
        lambda: vitq.evaluate("digits_vit", "digits", limit=20),
        lambda: vitq.sensitivity("digits_vit", "digits", limit=20),
    ],
    ids=["quantize", "evaluate", "sensitivity"],
)
def test_a_model_that_is_a_name_and_a_file_is_refused(call: Callable[[], object], here: Path) -> None:
    (here / "digits_vit").write_bytes(b"some file")
    with pytest.raises(vitq.BadInputError) as caught:
        call()
    assert MODEL in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("quantize", "digits_vit", "--method", "minmax", "--bits", "W8A8", "-o", "small.safetensors"),
        ("evaluate", "digits_vit", "--dataset", "digits"),
        ("evaluate", "digits_vit", "--dataset", "digits", "--like", "digits_vit"),
        ("sensitivity", "digits_vit", "--dataset", "digits"),
        ("run", "--model", "digits_vit", "--method", "minmax", "--bits", "W8A8"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_the_command_line_refuses_it_too(words: tuple[str, ...], here: Path) -> None:
    (here / "digits_vit").write_bytes(b"some file")
    vitq_here(*words).refused(MODEL)


def test_a_file_by_its_path_and_a_folder_of_a_models_name_are_as_before(here: Path) -> None:
    (here / "digits_vit").write_bytes(b"some file")
    with pytest.raises(vitq.BadInputError, match=r"architecture=|is no model that is known here"):
        vitq.evaluate("./digits_vit", "digits")
    (here / "digits_vit").unlink()
    (here / "digits_vit").mkdir()
    assert vitq.evaluate("digits_vit", "digits", limit=20).n == 20
