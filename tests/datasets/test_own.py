"""A folder of one's own: classes of any names, labels from a CSV, an order from a file, and what is held out."""

from __future__ import annotations

import json
import pickle
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitq.datasets import imagenet, own_labels
from vitq.datasets.base import ByClasses, Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.identity import validation_sha256
from vitq.datasets.listing import Item
from vitq.datasets.own import OwnFolder, own_data, own_dataset
from vitq.datasets.own_parts import held_out
from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError
from vitq.subject import silent

HOW = Preprocessing((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
NAMES = ("chat noir", "=SUM(1)|x", "日本", "<b>bold", "a|b", "zebra", "class10")


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40 + seed % 7, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


def photographs(root: Path, names: tuple[str, ...] = NAMES, each: int = 10) -> Path:
    for i, name in enumerate(names):
        for j in range(each):
            picture(root / name / f"{j}.jpg", 100 * i + j)
    return root


@pytest.fixture(scope="module")
def seventy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("data") / "my photos")


def opened(
    dataset: OwnFolder, root: Path, classes: int | None = None, limit: int | None = None, **spec: object
) -> Data:
    fitted = dataset.of_classes(len(dataset.names) if classes is None else classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fitted.open(HOW, Calibration.parse(spec), {dataset.name: root}, limit=limit, seed=0, workers=None)


def labels_of(data: Data) -> dict[str, int]:
    found = torch.cat([labels for _, labels in data.validation()]).tolist()
    return dict(zip(data.names, found, strict=True))


def refused(*arguments: object, **words: object) -> str:
    with pytest.raises(BadInputError) as error:
        own_dataset(*arguments, **words)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_any_names_are_classes_in_sorted_order(seventy: Path) -> None:
    dataset = own_dataset(seventy)
    assert dataset.name == "my photos"
    assert dataset.names == tuple(sorted(NAMES))
    assert isinstance(dataset, ByClasses)
    assert pickle.loads(pickle.dumps(dataset)) == dataset
    for path, label in labels_of(opened(dataset, seventy)).items():
        assert dataset.names[label] == path.split("/")[0]


def test_a_part_of_a_flat_folder_is_held_out_and_said(seventy: Path) -> None:
    dataset = own_dataset(seventy)
    with pytest.warns(UserWarning, match="32 of the 70 of my photos are held out to calibrate and train on; 38 are ev"):
        data = dataset.of_classes(7).open(HOW, Calibration(), {"my photos": seventy}, limit=None, seed=0, workers=None)
    calibrated = data.calibration_list.splitlines()
    assert (data.n_validation, len(calibrated), data.calibration_overlap) == (38, 32, 0)
    assert not set(calibrated) & set(data.names)
    other = opened(dataset, seventy, images=5, seed=9)
    assert other.names == data.names, "whatever is calibrated on"
    assert sum(len(labels) for _, labels in data.calibration()) == 32
    assert data.training is not None
    assert sum(len(labels) for _, labels in data.training(0)) == 32
    everything = opened(own_dataset(seventy, hold_out=False), seventy)
    assert (everything.n_validation, everything.calibration_overlap) == (70, 32)
    assert everything.training is None


def test_a_folder_of_few_images_is_evaluated_whole_and_calibrates_on_some(tmp_path: Path) -> None:
    root = photographs(tmp_path / "few", ("a", "b"), each=5)
    dataset = own_dataset(root)
    with pytest.warns(UserWarning, match=".") as told:
        data = dataset.of_classes(2).open(HOW, Calibration(), {"few": root}, limit=None, seed=0, workers=None)
    said = [str(warning.message) for warning in told]
    assert any("calibrated on all 10 images" in text for text in said)
    assert any("10 of 10 calibration images are among the images evaluated" in text for text in said)
    assert data.n_validation == 10
    with pytest.raises(BadInputError, match="11 images asked for, but seeded has 10: ask fewer"):
        opened(dataset, root, images=11)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 400), st.integers(1, 9))
def test_what_is_held_out_is_a_stratified_part(count: int, classes: int) -> None:
    items = [Item(f"{i % classes}/{i}.jpg", i % classes) for i in range(count)]
    parts = held_out(items, True)
    assert sorted(item for part in parts.values() for item in part) == sorted(items)
    assert len(parts["val"]) >= min(32, count)
    if "calibration" in parts:
        sizes = Counter(item.label for item in parts["calibration"])
        exact = len(parts["calibration"]) / classes
        assert all(abs(sizes[label] - exact) <= 2 for label in range(classes))


def test_splits_are_used_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "split"
    photographs(root / "train", ("cat", "dog", "emu"), each=4)
    photographs(root / "validation", ("cat", "dog"), each=2)
    dataset = own_dataset(root)
    data = opened(dataset, root, images=12)
    assert dataset.names == ("cat", "dog", "emu")
    assert (data.n_validation, data.calibration_overlap) == (4, 4), "same pixels under other names are overlap"
    assert all(path.startswith("train/") for path in data.calibration_list.splitlines())
    assert data.training is not None
    assert labels_of(data)["validation/dog/1.jpg"] == 1
    checks = dataset.verify({"split": root}, sample=5, tell=silent, workers=None)
    assert all(check.ok for check in checks)
    assert checks[0].message == "12 images, 3 of 3 classes"


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert own_dataset(photographs(tmp_path, ("bus", "train"), each=1)).names == ("bus", "train")


def test_lists_and_limits_are_as_elsewhere(seventy: Path, tmp_path: Path) -> None:
    dataset = own_dataset(seventy)
    limited = opened(dataset, seventy, limit=14)
    assert set(Counter(labels_of(limited).values()).values()) <= {1, 2, 3}
    assert limited.subset == "".join(f"{name}\n" for name in limited.names)
    first = opened(dataset, seventy, images=3, list="first").calibration_list
    (tmp_path / "list.txt").write_text(first)
    assert opened(dataset, seventy, images=3, list=str(tmp_path / "list.txt")).calibration_list == first
    assert opened(dataset, seventy, list="none").calibration_list == ""
    (tmp_path / "list.txt").write_text("chat noir/gone.jpg\n")
    with pytest.raises(BadInputError, match="which is no image of"):
        opened(dataset, seventy, images=1, list=str(tmp_path / "list.txt"))


def test_identity_is_of_content(tmp_path: Path) -> None:
    root = photographs(tmp_path / "a", ("x", "y"), each=3)

    def identity(where: Path = root, **words: object) -> dict[str, str]:
        dataset = own_dataset(where, name="same", **words)  # type: ignore[arg-type]
        return dataset.identity({"same": where}, limit=None, spec=Calibration(images=2), wants=("calibration",))

    before = identity()
    assert identity(photographs(tmp_path / "b", ("x", "y"), each=3)) == before
    (tmp_path / "order.txt").write_text("y\nx\n")
    assert identity(classes=tmp_path / "order.txt")["validation"] != before["validation"]
    assert opened(own_dataset(root, name="same"), root, images=2).sha256 == before["validation"]
    picture(root / "x" / "0.jpg", 99)
    assert identity()["validation"] != before["validation"]


def test_synsets_are_imagenets_for_a_model_of_all_of_them(tmp_path: Path) -> None:
    root = photographs(tmp_path / "few", ("n01443537", "n02123045"), each=2)
    dataset = own_dataset(root)
    assert set(labels_of(opened(dataset, root, classes=1000)).values()) == {1, 281}
    assert set(labels_of(opened(dataset, root)).values()) == {0, 1}
    one, other = opened(dataset, root, classes=1000), opened(dataset, root)
    assert one.sha256 == other.sha256, "the model is what differs"
    assert set(imagenet.classes()) >= set(dataset.names)


@pytest.mark.parametrize("count", [2, 6, 8, 1000])
def test_a_model_of_other_classes_is_refused(count: int, seventy: Path) -> None:
    with pytest.raises(BadInputError, match=f"has 7 classes .*, but the model tells {count} apart: .*--classes FILE"):
        own_dataset(seventy).of_classes(count)


def test_the_order_of_a_fine_tuned_model_is_its_own(seventy: Path, tmp_path: Path) -> None:
    shuffled = [*reversed(NAMES), "never seen"]
    for name, text in {
        "order.txt": "\n".join(shuffled),
        "map.json": json.dumps({"class_to_idx": {name: i for i, name in enumerate(shuffled)}}),
        "plain.json": json.dumps({name: i for i, name in enumerate(shuffled)}),
        "list.json": json.dumps(shuffled),
        "config.json": json.dumps({"id2label": {str(i): name for i, name in enumerate(shuffled)}, "hidden_size": 4}),
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        dataset = own_dataset(seventy, classes=tmp_path / name)
        assert dataset.names == tuple(shuffled), name
    for path, label in labels_of(opened(dataset, seventy, classes=8)).items():
        assert shuffled[label] == path.split("/")[0]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is empty"), ("a\na\n", "names 'a' twice"), ('{"a": 0, "b": 2}', "gives no order"), ("[]", "no order"),
        ('{"a": true}', "gives no order"), ("{", "is no JSON"), ("cat\ndog", "is none of the classes"),
        ('["a", "\\u0007"]', "control characters"), ('{"id2label": {"x": "cat"}}', "gives no order"),
    ],
)  # fmt: skip
def test_a_bad_order_is_one_line(text: str, word: str, seventy: Path, tmp_path: Path) -> None:
    (tmp_path / "classes").write_text(text)
    assert word in refused(seventy, classes=tmp_path / "classes")
    assert "is not there" in refused(seventy, classes=tmp_path / "absent")


def test_orders_that_trainers_disagree_about_are_told(tmp_path: Path) -> None:
    root = photographs(tmp_path / "numbered", ("class10", "class2"), each=1)
    dataset = own_dataset(root)
    with pytest.warns(UserWarning, match="timm's trainer numbers these otherwise"):
        dataset.open(HOW, Calibration(list="none"), {"numbered": root}, limit=None, seed=0, workers=None)
    (tmp_path / "order").write_text("class2\nclass10\n")
    ordered = own_dataset(root, classes=tmp_path / "order")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ordered.open(HOW, Calibration(list="none"), {"numbered": root}, limit=None, seed=0, workers=None)


def csv(root: Path, text: str) -> Path:
    path = root.parent / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for i in range(4):
        picture(tmp_path / "flat" / f"im {i}.jpg", i)
    return tmp_path / "flat"


@pytest.mark.parametrize(
    ("rows", "labels", "names"),
    [
        ("im 0.jpg,dog\nim 1.jpg,cat\n", [1, 0], ("cat", "dog")),
        ("im 0.jpg,1\nim 1.jpg,0\n", [1, 0], ("0", "1")),
        ('"im 0.jpg","a, b"\nim 1.jpg,3\n', [1, 0], ("3", "a, b")),
    ],
)
def test_labels_come_from_a_csv(rows: str, labels: list[int], names: tuple[str, ...], flat: Path) -> None:
    dataset = own_dataset(flat, csv(flat, "image,label,by whom\n" + rows.replace("\n", ",me\n")))
    assert dataset.names == names
    assert list(labels_of(opened(dataset, flat)).values()) == labels


def test_indices_in_a_csv_fit_any_model_of_as_many_classes(flat: Path) -> None:
    dataset = own_dataset(flat, csv(flat, "image,label\nim 0.jpg,4\nim 1.jpg,0\n"))
    assert list(labels_of(opened(dataset, flat, classes=1000)).values()) == [4, 0]
    with pytest.raises(BadInputError, match="has 5 classes"):
        dataset.of_classes(4)


def test_a_csv_may_name_images_of_two_splits(tmp_path: Path) -> None:
    for path in ("train/a.jpg", "train/b.jpg", "val/a.jpg"):
        picture(tmp_path / "both" / path, len(path))
    text = "image,label\ntrain/a.jpg,x\ntrain/b.jpg,y\nval/a.jpg,y\n"
    dataset = own_dataset(tmp_path / "both", csv(tmp_path / "both", text))
    assert labels_of(opened(dataset, tmp_path / "both", images=2)) == {"val/a.jpg": 1}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is empty"),
        ("im 0.jpg,dog\n", "its first line has to name the columns image and label"),
        ("image;label\nim 0.jpg;dog\n", "begins with 'image;label'"),
        ("image,label,label\nim 0.jpg,a,b\n", "its first line"),
        ("image,label\n", "has a header but no row"),
        ("image,label\nim 9.jpg,dog\n", "names 'im 9.jpg', which is not in"),
        ("image,label\nim 0.jpg,dog\nim 0.jpg,cat\n", "names 'im 0.jpg' twice"),
        ("image,label\n../flat/im 0.jpg,dog\n", "give plain paths"),
        ("image,label\nim 0.jpg\n", "row 2 lacks a label"),
        ("image,label\n,dog\n", "row 2 lacks an image"),
        ("image,label\nim 0.txt,dog\n", "images end in"),
        ("image,label\nim 0.jpg,d\x07g\n", "control characters"),
        ('image,label\n"im 0.jpg,dog\n', "cannot be read as CSV"),
    ],
)
def test_a_bad_csv_is_one_line(text: str, word: str, flat: Path) -> None:
    assert word in refused(flat, csv(flat, text))


def test_a_label_of_no_class_is_one_line(flat: Path) -> None:
    (flat.parent / "order").write_text("cat\ndog\n")
    for label, word in (("dgo", "unknown label 'dgo'; did you mean 'dog'"), ("2", "has label 2, but there are 2 cl")):
        path = csv(flat, f"image,label\nim 0.jpg,{label}\n")
        assert word in refused(flat, path, classes=flat.parent / "order")
    (flat.parent / "binary").write_bytes(b"\xff\xfe\x00")
    assert "it is not UTF-8" in refused(flat, flat.parent / "binary")
    assert "is not a regular file" in refused(flat, flat)


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_no_text_of_labels_does_more_than_one_line(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        path.write_bytes(text.encode())
        with pytest.raises(BadInputError) as error:
            own_labels.read_labels(path, Path(folder))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a/b", " ", "two\nlines"])
def test_a_name_that_no_table_holds_is_refused(name: str, seventy: Path) -> None:
    assert "cannot name a data set" in refused(seventy, name=name)


def test_names_of_ours_are_left_to_ours(tmp_path: Path) -> None:
    assert own_dataset(photographs(tmp_path / "digits", ("a",), each=1)).name == "own-digits"


def test_bad_folders_are_one_line(tmp_path: Path) -> None:
    assert "is not there" in refused(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    assert "is no folder" in refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "holds no class folders" in refused(tmp_path / "empty")
    picture(tmp_path / "unsorted" / "a.jpg", 0)
    assert "holds 1 images but no class folders" in refused(tmp_path / "unsorted")
    for split in ("train", "val"):
        picture(tmp_path / "splits" / split / "a.jpg", 0)
    assert "is not sorted by class" in refused(tmp_path / "splits")
    photographs(tmp_path / "half" / "train", ("a",), each=1)
    assert "has train/ but no val/" in refused(tmp_path / "half")
    (tmp_path / "odd" / "two\nlines").mkdir(parents=True)
    assert "rename it" in refused(tmp_path / "odd")
    (tmp_path / "bare" / "cat").mkdir(parents=True)
    assert "holds no image" in refused(tmp_path / "bare")


def test_an_image_that_is_none_is_named_when_it_is_read(tmp_path: Path) -> None:
    root = photographs(tmp_path / "bad", ("a", "b"), each=2)
    (root / "a" / "0.jpg").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"a/0\.jpg"):
        labels_of(opened(own_dataset(root), root))
    checks = own_dataset(root).verify({"bad": root}, sample=5, tell=silent, workers=None)
    assert [check.ok for check in checks] == [True, False]


@pytest.mark.parametrize("augment", ["none", "light", pytest.param("full", marks=pytest.mark.slow)])
def test_training_epochs_are_seeded(augment: str, seventy: Path) -> None:
    dataset = own_dataset(seventy)
    data = opened(dataset, seventy, augment=augment, train_batch=8)
    assert data.training is not None
    one, again, other = (next(data.training(epoch)) for epoch in (0, 0, 1))
    assert torch.equal(one[0], again[0])
    assert not torch.equal(one[0], other[0])
    assert one[1].shape == ((8, 7) if augment == "full" else (8,))


def test_data_of_hugging_face_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="the extra hf is not installed")
    from vitq.datasets import hugging_face

    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))
    try:
        library = hugging_face.library()
    except BadInputError as error:
        pytest.skip(str(error))
    picture(tmp_path / "image.jpg", 0)
    content = (tmp_path / "image.jpg").read_bytes()
    features = library.Features({"picture": library.Image(), "label": library.ClassLabel(names=["zebra", "an ape"])})
    made = library.Dataset.from_dict(
        {"picture": [{"bytes": content, "path": None}] * 4, "label": [0, 1, 1, 0]}, features
    )
    library.disable_progress_bars()
    made.save_to_disk(str(tmp_path / "saved"))
    dataset, root = own_data(tmp_path / "saved")
    assert (dataset.name, dataset.names) == ("saved", ("zebra", "an ape"))
    assert (root / "val" / "00000000.jpg").read_bytes() == content
    assert list(labels_of(opened(dataset, root)).values()) == [0, 1, 1, 0]
    assert own_data(tmp_path / "saved") == (dataset, root)
    with pytest.raises(BadInputError, match="the site file does not allow"):
        own_data("hf:owner/name", hub=False)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInputError, match=r"pip install 'vitq\[hf\]'"):
        own_data("hf:owner/name")


def test_labels_count_whatever_the_order_of_files() -> None:
    items = [Item("b", 1), Item("a", 0)]
    assert validation_sha256(items, ["2", "1"]) == validation_sha256(items[::-1], ["1", "2"])
    assert validation_sha256(items, ["2", "1"]) != validation_sha256([Item("b", 0), Item("a", 1)], ["2", "1"])
