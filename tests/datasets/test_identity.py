"""The identity of data is what is in the files that are used, in the order they are used, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitq.datasets import digits, imagenet, registry
from vitq.datasets.calibration import Calibration
from vitq.datasets.identity import data_identity
from vitq.datasets.listing import as_text
from vitq.errors import BadInputError

WANTS = ("calibration", "training")
SPEC = {"images": 8, "batch": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def world(folder: Path) -> Path:
    """The folder with a list and an ATTRIBUTION.csv that name training images in an order of their own."""
    items = imagenet.listing(folder, "train")[::3]
    (folder / "list.txt").write_text(as_text(items))
    rows = "".join(f"{item.path},{order}\n" for order, item in enumerate(reversed(items)))
    (folder / "ATTRIBUTION.csv").write_text("file,order\n" + rows)
    return folder


def identity(world: Path, limit: int | None = None, wants: tuple[str, ...] = WANTS, **spec: Any) -> dict[str, str]:
    return data_identity("imagenet-proxy", {"imagenet-proxy": world}, limit=limit, calibration=SPEC | spec, wants=wants)


def change_pixel(path: Path) -> None:
    image = Image.open(path).convert("RGB")
    image.putpixel((40, 30), (0, 255, 0))
    image.save(path, quality=90)


def lines(world: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = world / "list.txt"
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


def reorder_attribution(world: Path) -> None:
    text = (world / "ATTRIBUTION.csv").read_text().splitlines()
    text[1], text[2] = text[1].rsplit(",", 1)[0] + ",1", text[2].rsplit(",", 1)[0] + ",0"
    (world / "ATTRIBUTION.csv").write_text("\n".join(text) + "\n")


def first(world: Path, split: str) -> Path:
    return world / imagenet.listing(world, split)[0].path


LIST, CSV = "list.txt", "attribution"
CHANGES: dict[str, tuple[str, Callable[[Path], Any], set[str]]] = {
    "a pixel of a validation image": (CSV, lambda w: change_pixel(first(w, "val")), {"validation"}),
    "a byte behind a validation image": (CSV, lambda w: first(w, "val").open("ab").write(b"x"), {"validation"}),
    "a validation image's name": (
        CSV, lambda w: first(w, "val").rename(first(w, "val").with_name("z.JPEG")), {"validation"},
    ),
    "a validation image gone": (CSV, lambda w: first(w, "val").unlink(), {"validation"}),
    "a validation image's class": (
        CSV, lambda w: first(w, "val").rename(w / "val" / "n15075141" / "moved.JPEG"), {"validation"},
    ),
    "a pixel of the first calibration image": (
        LIST, lambda w: change_pixel(first(w, "train")), {"calibration", "training"},
    ),
    "two lines of the list exchanged": (LIST, lambda w: lines(w, lambda t: [t[1], t[0], *t[2:]]), {"calibration"}),
    "another name in the list": (
        LIST, lambda w: lines(w, lambda t: [imagenet.listing(w, "train")[1].path, *t[1:]]), {"calibration"},
    ),
    "the list shortened behind what is used": (LIST, lambda w: lines(w, lambda t: t[:8]), {"calibration"}),
    "the order of ATTRIBUTION.csv": (CSV, reorder_attribution, {"calibration"}),
    "a training image": ("seeded", lambda w: (w / "train/n01440764/new.png").write_bytes(b"png"), {"training"}),
    ".DS_Store": (CSV, lambda w: (w / "val" / "n01440764" / ".DS_Store").write_bytes(b"x"), set()),
    "Thumbs.db": (CSV, lambda w: (w / "val" / "n01440764" / "Thumbs.db").write_bytes(b"x"), set()),
    "a text beside the folders": (CSV, lambda w: (w / "val" / "notes.txt").write_text("x"), set()),
    "a bitmap that is not read": (CSV, lambda w: (w / "val" / "n01440764" / "a.bmp").write_bytes(b"x"), set()),
    "times alone": (CSV, lambda w: first(w, "val").touch(), set()),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_shows_where_it_matters_and_nowhere_else(what: str, world: Path, tmp_path: Path) -> None:
    kind, change, shows = CHANGES[what]
    spec = {"list": str(world / "list.txt") if kind == LIST else kind}
    before = identity(world, **spec)
    assert set(before) == {"validation", "subset", "calibration", "training"}
    change(world)
    after = identity(world, **spec)
    if what != "a training image":  # a draw from more names is another draw
        assert {key for key in after if after[key] != before[key]} == shows
    else:
        assert after["training"] != before["training"]
        assert after["validation"] == before["validation"]


@pytest.mark.parametrize(
    ("change", "shows"),
    [
        ({"batch": 2}, {"calibration"}),
        ({"images": 7}, {"calibration"}),
        ({"seed": 1}, {"calibration"}),
        ({"split": "val"}, {"calibration"}),
        ({"train_batch": 3}, {"training"}),
        ({"augment": "full"}, {"training"}),
        ({"limit": 4}, {"validation", "subset"}),
    ],
)
def test_an_option_shows_where_it_matters(change: dict[str, Any], shows: set[str], world: Path) -> None:
    before, after = identity(world), identity(world, **change)
    assert {key for key in after if after[key] != before[key]} == shows


def test_an_image_that_a_limit_leaves_out_does_not_matter(world: Path) -> None:
    before = identity(world, limit=4, wants=())
    used = {item.path for item in imagenet.limited(world, 4)}
    change_pixel(world / next(item.path for item in imagenet.listing(world, "val") if item.path not in used))
    assert identity(world, limit=4, wants=()) == before
    change_pixel(world / min(used))
    assert identity(world, limit=4, wants=())["validation"] != before["validation"]
    assert before["subset"] not in ("all", identity(world, limit=5, wants=())["subset"])
    assert identity(world, wants=())["subset"] == "all"


def test_what_is_not_wanted_is_not_asked_for(world: Path) -> None:
    assert set(identity(world, wants=(), list=str(world / "absent.txt"))) == {"validation", "subset"}
    with pytest.raises(BadInputError, match="cannot be read"):
        identity(world, list=str(world / "absent.txt"))
    with pytest.raises(ValueError, match="weights"):
        identity(world, wants=("weights",))


def test_opened_data_are_what_the_identity_says(world: Path) -> None:
    from vitq.datasets.batches import Preprocessing

    for name, limit, side in (("imagenet-proxy", 4, 32), ("digits", None, 24)):
        how = Preprocessing((3, side, side), (0.5,) * 3, (0.5,) * 3)
        data = registry.load(name).open(how, Calibration(images=8), {name: world}, limit=limit, seed=0, workers=None)
        assert data.sha256 == data_identity(name, {name: world}, limit=limit)["validation"]
        assert len(data.names) == data.n_validation


def test_digits_are_known_by_scikit_learns_file_and_the_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = data_identity("digits", {}, wants=WANTS)
    assert before == data_identity("digits", {}, wants=WANTS)
    other = tmp_path / "digits.csv.gz"
    other.write_bytes(digits.source().read_bytes() + b"\0")
    with monkeypatch.context() as patch:
        patch.setattr(digits, "source", lambda: other)
        after = data_identity("digits", {}, wants=WANTS)
    assert {key for key in after if after[key] != before[key]} == {"validation", "calibration", "training"}
    moved = {split: list(indices) for split, indices in digits.splits().items()}
    moved["train"][0], moved["validation"][0] = moved["validation"][0], moved["train"][0]
    monkeypatch.setattr(digits, "splits", lambda: moved)
    after = data_identity("digits", {}, wants=WANTS)
    assert {key for key in after if after[key] != before[key]} == {"validation", "training"}


def test_labels_are_scikit_learns_and_timms() -> None:
    from sklearn.datasets import load_digits
    from timm.data.imagenet_info import ImageNetInfo

    assert digits.labels() == load_digits().target.tolist()
    assert list(imagenet.classes()) == ImageNetInfo("imagenet-1k").label_names()


@pytest.mark.parametrize("limit", [0, -1, True])
def test_a_limit_leaves_an_image(limit: Any) -> None:
    with pytest.raises(BadInputError, match="at least 1"):
        data_identity("digits", {}, limit=limit)


def test_unknown_data_sets_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="did you mean 'digits'"):
        data_identity("digit", {})
    with pytest.raises(BadInputError, match="under \\[datasets\\]"):
        data_identity("imagenet-1k", {})
    with pytest.raises(BadInputError, match="is not there"):
        data_identity("imagenet-1k", {"imagenet-1k": tmp_path / "gone"})


def test_identities_need_no_torch_timm_or_scikit_learn(world: Path) -> None:
    code = (
        "import sys, pathlib; from vitq.datasets.identity import data_identity as i; root = pathlib.Path(sys.argv[1]); "
        "wants = ('calibration', 'training'); i('digits', {}, wants=wants); "
        "i('imagenet-1k', {'imagenet-1k': root}, calibration={'images': 8}, wants=wants); "
        "print([m for m in ('torch', 'timm', 'sklearn', 'numpy', 'PIL') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code, str(world)], text=True).strip() == "[]"


def test_the_first_images_of_a_split_are_taken_in_its_order(world: Path) -> None:
    for split in (None, "val"):
        every = imagenet.listing(world, split or "train")
        assert imagenet.calibration(world, Calibration(images=5, list="first", split=split)) == every[:5]
    assert digits.calibration(Calibration(images=5, list="first")) == digits.items("calibration")[:5]
    before = identity(world, list="first", split="train")
    assert before == identity(world, list="first") == identity(world, list="first", seed=3)
    assert before["calibration"] != identity(world)["calibration"]
    with pytest.raises(BadInputError, match="49 images asked for, but first has 48"):
        imagenet.calibration(world, Calibration(images=49, list="first"))
