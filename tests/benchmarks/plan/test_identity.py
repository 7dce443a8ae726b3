"""What decides a measurement and what does not: the table of `vitq.benchmarks.plan.identity`, a line a change."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitq.benchmarks.plan import code_identity, identity
from vitq.benchmarks.plan.code_identity import code_sha256, reached, tree_sha256
from vitq.benchmarks.plan.identity import Surroundings, identify, identify_counts
from vitq.benchmarks.plan.suite import Latency
from vitq.record import CellKey, Kind, key_of
from vitq.tasks import names, weight_files
from vitq.tasks.places import Places

ALL: set[Kind] = {"model", "accuracy", "counts", "latency"}
MODEL: set[Kind] = {"model", "accuracy", "latency"}
SYNSETS = ("n01440764", "n02172182")


@dataclass
class World:
    """A cell and all around it, to be changed in one thing."""

    root: Path
    patch: pytest.MonkeyPatch
    cell: CellKey
    device: str = "cpu"
    latency: Latency = field(default_factory=Latency)
    threads: int = 2

    @property
    def data(self) -> Path:
        return self.root / "data"

    def places(self) -> Places:
        return Places({"imagenet-proxy": self.data}, {"vit_tiny_patch16_224": self.root / "weights.safetensors"}, False)

    def keys(self) -> dict[str, str]:
        identity.forget()
        found = identify(self.cell, Surroundings(self.places(), self.device, self.latency, self.threads))
        return {**found.keys, "fp32": found.fp32_key or ""}

    def ask(self, **changes: Any) -> None:
        self.cell = self.cell.model_copy(update=changes)

    def entry(self, **changes: Any) -> None:
        known = names.model_entries()
        changed = known["vit_tiny_patch16_224"].model_copy(update=changes)
        self.patch.setattr(names, "model_entries", lambda: {**known, "vit_tiny_patch16_224": changed})

    def preprocessing(self, **changes: Any) -> None:
        self.entry(preprocessing=replace(names.model_entry("vit_tiny_patch16_224").preprocessing, **changes))

    def code(self, module: str) -> None:
        """As if the module's syntax tree were another."""
        old = code_identity._tree_sha256
        self.patch.setattr(code_identity, "_tree_sha256", lambda m: f"changed {m}" if m == module else old(m))
        for cached in (identity.method_code, identity.data_code):
            cached.cache_clear()

    def package(self, name: str) -> None:
        old = identity.version
        self.patch.setattr(identity, "version", lambda p: "99.0" if p == name else old(p))
        identity.packages.cache_clear()


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))
    for number, (split, synset, i) in enumerate(itertools.product(("train", "val"), SYNSETS, range(3))):
        image(tmp_path / "data" / split / synset / f"{i}.JPEG", number)
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "list.txt").write_text("".join(f"train/{s}/{i}.JPEG\n" for s in SYNSETS for i in range(3)))
    calibration = {"images": 4, "batch": 4, "list": str(tmp_path / "list.txt"), "train_batch": 2, "augment": "light"}
    cell = CellKey(
        id="minmax/x", method="minmax", task="classification", dataset="imagenet-proxy", model="vit_tiny_patch16_224",
        bits="W8A8", calibration=calibration,
    )  # fmt: skip
    # the weights here are none that the table of models could pin
    monkeypatch.setattr(weight_files, "checked_sha256", lambda path, *_: weight_files.file_sha256(path))
    yield World(tmp_path, monkeypatch, cell)
    for cached in (identity.method_code, identity.data_code, identity.packages):
        cached.cache_clear()


def rewrite(path: str, content: Callable[[bytes], bytes]) -> Callable[[World], None]:
    def change(world: World) -> None:
        file = world.root / path
        file.write_bytes(content(file.read_bytes()))

    return change


def touch_up(path: str) -> Callable[[World], None]:
    return rewrite(path, lambda old: old[:-2] + bytes([old[-2] ^ 1]) + old[-1:])


IN: dict[str, tuple[Callable[[World], Any], set[str]]] = {
    "the method": (lambda w: w.ask(method="repq_vit"), {*ALL}),
    "an option": (lambda w: w.ask(options={"x": 1}), {*ALL}),
    "bits": (lambda w: w.ask(bits="W4A4"), {*ALL}),
    "scope": (lambda w: w.ask(scope="backbone"), {*ALL}),
    "seed": (lambda w: w.ask(seed=7), {*MODEL}),
    "architecture": (
        lambda w: w.entry(build=names.Build.model_validate({"class": "VisionTransformer", "args": {"depth": 3}})),
        {*ALL, "fp32"},
    ),
    "input size": (lambda w: w.preprocessing(size=(3, 192, 192)), {*ALL, "fp32"}),
    "mean": (lambda w: w.preprocessing(mean=(0.4, 0.5, 0.5)), {*MODEL, "fp32"}),
    "crop": (lambda w: w.preprocessing(crop_pct=0.8), {*MODEL, "fp32"}),
    "a byte of the weights": (touch_up("weights.safetensors"), {*MODEL, "fp32"}),
    "a byte of a calibration image": (touch_up(f"data/train/{SYNSETS[0]}/0.JPEG"), {*MODEL}),
    "the calibration list's order": (
        rewrite("list.txt", lambda old: b"".join(reversed(old.splitlines(keepends=True)))),
        {*MODEL},
    ),
    "the calibration batch": (lambda w: w.ask(calibration={**w.cell.calibration, "batch": 2}), {*MODEL}),
    "a byte of a validation image": (touch_up(f"data/val/{SYNSETS[1]}/2.JPEG"), {"accuracy", "fp32"}),
    "a validation image more": (lambda w: image(w.data / "val" / SYNSETS[0] / "9.JPEG", 99), {"accuracy", "fp32"}),
    "a validation image less": (lambda w: (w.data / "val" / SYNSETS[0] / "1.JPEG").unlink(), {"accuracy", "fp32"}),
    "the limit": (lambda w: w.ask(limit=2), {"accuracy", "fp32"}),
    "kind of device": (lambda w: replace(w, device="cuda"), {*MODEL, "fp32"}),
    "version of torch": (lambda w: w.package("torch"), {*ALL, "fp32"}),
    "version of pillow": (lambda w: w.package("pillow"), {*MODEL, "fp32"}),
    "code of the method": (lambda w: w.code("vitq.methods.minmax.method"), {*ALL}),
    "code of what methods share": (lambda w: w.code("vitq.methods.base"), {*ALL, "fp32"}),
    "code of the task": (lambda w: w.code("vitq.tasks.classification"), {*MODEL, "fp32"}),
    "code of the data set": (lambda w: w.code("vitq.datasets.imagenet"), {*MODEL, "fp32"}),
    "code of the accuracy": (lambda w: w.code("vitq.benchmarks.measure.accuracy"), {"accuracy", "fp32"}),
    "code of the counts": (lambda w: w.code("vitq.benchmarks.measure.conventions"), {"counts"}),
    "code of the latency": (lambda w: w.code("vitq.benchmarks.measure.latency"), {"latency"}),
    "latency's batch": (lambda w: replace(w, latency=Latency(batch=1)), {"latency"}),
    "latency's rounds": (lambda w: replace(w, latency=Latency(runs=50)), {"latency"}),
    "latency's threads": (lambda w: replace(w, threads=1), {"latency"}),
    "the machine": (lambda w: w.patch.setattr(identity, "machine_id", lambda: "another"), {"latency"}),
    "the very GPU": (lambda w: replace(w, device="cpu:0"), {"latency"}),
}


@pytest.mark.parametrize("name", IN)
def test_what_decides_changes_its_own_measurements_and_no_other(world: World, name: str) -> None:
    change, wanted = IN[name]
    before = world.keys()
    changed = change(world)
    after = (changed if isinstance(changed, World) else world).keys()
    assert {kind for kind, key in after.items() if before[kind] != key} == wanted


OUT: dict[str, Callable[[World], Any]] = {
    "the cell's id and variant": lambda w: w.ask(id="y", variant="z"),
    "the folder's name": lambda w: (w.root / "data").rename(w.root / "moved"),
    "a stray file": lambda w: [(w.data / split / ".DS_Store").write_text("x") for split in ("train", "val")],
    "a training image that is not calibrated on": lambda w: image(w.data / "train" / SYNSETS[0] / "7.JPEG", 77),
    "the time of a file": lambda w: os.utime(w.data / "val" / SYNSETS[0] / "0.JPEG", (1, 1)),
    "another method's code": lambda w: w.code("vitq.methods.i_vit.method"),
    "another data set's code": lambda w: w.code("vitq.datasets.digits"),
    "another model's entry": lambda w: names.model_entries().pop("digits_swin", None),
    "the report's code": lambda w: w.code("vitq.reports.tables"),
}


@pytest.mark.parametrize("name", OUT)
def test_what_does_not_decide_changes_nothing(world: World, name: str) -> None:
    before = world.keys()
    try:
        OUT[name](world)
        if (world.root / "moved").is_dir():
            places = Places(
                {"imagenet-proxy": world.root / "moved"},
                {"vit_tiny_patch16_224": world.root / "weights.safetensors"}, False,
            )  # fmt: skip
            world.places = lambda: places  # type: ignore[method-assign]
        assert world.keys() == before
    finally:
        names.model_entries.cache_clear()


def test_training_images_decide_only_where_the_method_trains(world: World) -> None:
    world.ask(method="i_vit", options={"epochs": 1})
    trained = world.keys()
    world.ask(options={"epochs": 0})
    post_training = world.keys()
    image(world.data / "train" / SYNSETS[0] / "7.JPEG", 77)
    assert world.keys() == post_training
    world.ask(options={"epochs": 1})
    assert world.keys()["model"] != trained["model"]


def test_counts_follow_the_model_where_widths_depend_on_data(world: World) -> None:
    world.ask(method="pmq")
    before = world.keys()
    world.ask(seed=3)
    assert world.keys()["counts"] != before["counts"]


def test_a_file_named_by_an_option_decides_by_its_content(world: World) -> None:
    for name in ("a", "b"):
        (world.root / f"{name}.safetensors").write_bytes(b"images")
    found = []
    for name, content in (("a", b"images"), ("b", b"images"), ("b", b"others")):
        (world.root / f"{name}.safetensors").write_bytes(content)
        world.ask(method="psaq_vit", options={"images_from": str(world.root / f"{name}.safetensors")})
        found.append(world.keys()["model"])
    assert found[0] == found[1] != found[2]


def test_fp32_is_its_own_reference(world: World) -> None:
    world.ask(method="fp32", bits="FP32", options={})
    keys = world.keys()
    assert keys["accuracy"] == keys["fp32"]


def test_counts_alone_are_those_of_a_measured_cell(world: World) -> None:
    assert identify_counts(world.cell).keys["counts"] == world.keys()["counts"]


def test_comments_docstrings_and_layout_are_no_code() -> None:
    source = b'"""Doc."""\nX = 1  # why\n\n\ndef f(a):\n    """Say."""\n    return a + X\n'
    same = b'"""Other."""\n\nX = 1\ndef f(a):\n    # because\n    return (a\n        + X)\n'
    assert tree_sha256(source) == tree_sha256(same)
    assert tree_sha256(source) != tree_sha256(source.replace(b"a + X", b"X + a"))
    assert tree_sha256(source) != tree_sha256(source.replace(b"X = 1", b"X = 2"))


def test_a_methods_code_is_what_it_imports_and_nothing_else() -> None:
    found = reached(["vitq.methods.repq_vit.method"])
    assert {
        "vitq.methods.repq_vit.method",
        "vitq.methods.toolkit.observers",
        "vitq.methods.toolkit.quantizers",
    } <= found
    assert not [name for name in found if "i_vit" in name or "pmq" in name or name.startswith("vitq.datasets")]
    assert "vitq.methods.i_vit.forms" in reached(["vitq.methods.i_vit.method"])


def test_every_module_that_a_method_really_imports_is_in_its_code() -> None:
    """The imports that are read from sources are those that Python makes."""
    import subprocess
    import sys

    from vitq.methods.cards import all_cards

    for method in all_cards():
        code = f"import sys, vitq.methods.{method}; print(*(m for m in sys.modules if m.split('.')[0] == 'vitq'))"
        real = set(
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        )
        assert real <= reached([f"vitq.methods.{method}.method"])


def test_keys_follow_from_parts() -> None:
    assert key_of({"a": "1", "b": "2"}) == key_of({"b": "2", "a": "1"}) != key_of({"a": "1", "b": "3"})
    assert code_sha256("vitq.methods.fp32.method") == code_sha256("vitq.methods.fp32.method")
