"""Weights files of every kind that people have: read, or refused in one line that says what the file is."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vitq.errors import BadInputError
from vitq.mm import why_absent
from vitq.tasks import weights
from vitq.tasks.checkpoints import WeightsWarning, read

STATE = {"weight": torch.eye(2), "bias": torch.zeros(2)}


def put(state: dict[str, Tensor]) -> nn.Module:
    model = nn.Linear(2, 2)
    weights.put(state, model, "weights file w", "m")
    return model


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(BadInputError) as error:
        put(read(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def equal(state: dict[str, Tensor]) -> bool:
    return set(state) == set(STATE) and all(torch.equal(state[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("name", ["w", "w.pth", "w.safetensors", "w.bin"])
def test_a_file_is_what_it_holds_whatever_its_name(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    assert equal(read(tmp_path / name))
    assert equal(read(saved(tmp_path / name, STATE)))


@pytest.mark.parametrize(
    "content",
    [
        {"model": STATE, "epoch": 3},
        {"state_dict": STATE, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"model": {"state_dict": STATE}},
        {f"module.{k}": v for k, v in STATE.items()},
        {"state_dict": {f"_orig_mod.module.{k}": v for k, v in STATE.items()}},
        {f"model.{k}": v for k, v in STATE.items()},
    ],
)
def test_weights_are_found_where_training_scripts_keep_them(tmp_path: Path, content: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equal(read(saved(tmp_path / "w.pth", content)))


def test_an_average_is_used_alone_and_named_where_it_is_not_used(tmp_path: Path) -> None:
    other = {k: v + 1 for k, v in STATE.items()}
    for plain, average in (("model", "model_ema"), ("state_dict", "state_dict_ema")):
        with pytest.warns(WeightsWarning, match=f"{plain} is used, {average} is not"):
            assert equal(read(saved(tmp_path / "w.pth", {average: other, plain: STATE})))
        with pytest.warns(WeightsWarning, match=f"{average}, a moving average, is used"):
            assert equal(read(saved(tmp_path / "w.pth", {average: STATE})))


class Runs:
    """Would write a file as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


class Executes(Runs):
    """Would do the same by the shell."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


class Evaluates(Runs):
    """Would do the same by a builtin function."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return eval, (f"__import__('pathlib').Path({str(self.path)!r}).touch()",)


class Imports(Runs):
    """Would do the same by a module that nothing else imports; the name alone would be enough."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        sys.path.insert(0, str(self.path.parent))
        try:
            return importlib.import_module("made_to_run").nothing, ()
        finally:
            sys.path.remove(str(self.path.parent))


FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickles"])
"""How torch saves since 1.6, and as before: OpenMMLab's script that publishes checkpoints still asks for the latter."""


def in_format(path: Path, content: Any, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@FORMATS
def test_other_objects_of_a_checkpoint_are_passed_over(tmp_path: Path, zipped: bool) -> None:
    """What mmengine's runner saves: histories of numpy arrays, schedulers' numbers, the arguments of the command."""
    beside = {
        "message_hub": {"loss": Collected(np.arange(3.0), np.float64(2))},
        "param_schedulers": [{"last": np.int64(3), "seen": OrderedDict(a=np.zeros(2))}],
        "meta": {"epoch": 3, "args": argparse.Namespace(lr=1)},
    }
    assert equal(read(in_format(tmp_path / "w.pth", {"state_dict": STATE, **beside}, zipped)))


@FORMATS
def test_a_checkpoint_of_mmdet_2_loads(tmp_path: Path, zipped: bool) -> None:
    """As mmcv 1's runner saves it: the best score so far, a number of numpy's, is among the hooks' messages."""
    meta = {
        "mmdet_version": "2.11.0", "CLASSES": ("person", "bicycle"), "config": "model = dict()", "seed": None,
        "epoch": 36, "iter": 263_880, "hook_msgs": {"best_score": np.float64(0.46), "last_ckpt": "epoch_36.pth"},
        "PALETTE": np.arange(6, dtype=np.uint8).reshape(2, 3),
    }  # fmt: skip
    state = OrderedDict(STATE)
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]  # as torch's own state dicts have
    assert equal(read(in_format(tmp_path / "w.pth", {"meta": meta, "state_dict": state}, zipped)))


@dataclass
class Collected:
    """As mmengine's HistoryBuffer: an object of two arrays."""

    history: Any
    count: Any


@FORMATS
@pytest.mark.parametrize("kind", [Runs, Executes, Evaluates, Imports])
def test_nothing_of_a_pickle_is_executed(tmp_path: Path, kind: type[Runs], zipped: bool) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "made_to_run.py").write_text(f"open({str(ran)!r}, 'w').close()\ndef nothing(): pass\n")
    path = in_format(tmp_path / "w.pth", {"state_dict": STATE, "meta": kind(ran)}, zipped)
    sys.modules.pop("made_to_run", None)
    ran.unlink(missing_ok=True)
    with suppress(BadInputError):
        assert equal(read(path))
    assert not ran.exists()
    assert "made_to_run" not in sys.modules
    with suppress(ModuleNotFoundError):  # the file would have done it, had anybody let it
        sys.path.insert(0, str(tmp_path))
        torch.load(path, weights_only=False)
    sys.path.remove(str(tmp_path))
    assert ran.exists()


@FORMATS
def test_what_torch_knows_is_not_shadowed_after_a_file_was_read(tmp_path: Path, zipped: bool) -> None:
    before = list(torch.serialization.get_safe_globals())
    read(in_format(tmp_path / "w.pth", {"state_dict": STATE, "meta": argparse.Namespace(lr=1)}, zipped))
    assert set(torch.serialization.get_safe_globals()) == set(before)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "w.pth", weights_only=True)


@FORMATS
def test_an_object_in_the_place_of_weights_is_refused(tmp_path: Path, zipped: bool) -> None:
    content = {"weight": STATE["weight"], "bias": argparse.Namespace()}
    assert "'bias' is a Namespace" in refused(in_format(tmp_path / "w.pth", content, zipped))


@FORMATS
def test_an_object_that_is_filled_like_a_list_is_named(tmp_path: Path, zipped: bool) -> None:
    said = refused(in_format(tmp_path / "w.pth", {"state_dict": STATE, "seen": deque([1, 2])}, zipped))
    assert "a pickled deque" in said
    assert "save the state dict alone" in said


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what mmengine saved after two epochs with two schedules and a moving average."""
    if why_absent("mmengine"):
        pytest.skip(str(why_absent("mmengine")))
    folder, script = tmp_path_factory.mktemp("trained"), Path(__file__).parents[1] / "support" / "mmengine_run.py"
    done = subprocess.run([sys.executable, script, folder], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@FORMATS
def test_a_checkpoint_of_mmengines_runner_loads(trained: Path, tmp_path: Path, zipped: bool) -> None:
    """As mmengine saved it, and as it would be published."""
    path = trained / "epoch_2.pth"
    content = torch.load(path, weights_only=False)  # our own, to be saved as it is published
    assert {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers", "ema_state_dict"} <= set(content)
    if not zipped:
        path = in_format(tmp_path / "published.pth", content, zipped)
    with pytest.raises(pickle.UnpicklingError, match=r"HistoryBuffer|numpy|getattr"):
        torch.load(path, weights_only=True)
    with pytest.warns(WeightsWarning, match="state_dict is used, ema_state_dict is not"):
        state = read(path)
    wanted = content["state_dict"]
    assert set(state) == set(wanted)
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"these are not weights\n", "neither safetensors nor a PyTorch checkpoint"),
        (b"\x80\x04K\x01.", "pickle"),
        (b"\x00" * 64, "neither"),
        (struct.pack("<Q", 1 << 40) + b"{}", "header lies"),
        (struct.pack("<Q", 2) + b"{}", "no dictionary of tensors"),
        (struct.pack("<Q", 8) + b"{\xff\xff\xff\xff\xff\xff}", "cannot be read"),
    ],
)
def test_other_bytes_are_said_to_be_what_they_are(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert says in refused(path)


def test_a_header_that_lies_about_its_tensors_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 16]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    assert "cannot be read" in refused(tmp_path / "w.safetensors")


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("readme.txt", "hello")
    assert "a zip file, but no PyTorch checkpoint" in refused(tmp_path / "w.pth")


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe or a device" in refused(tmp_path / "pipe")
    assert "a pipe or a device" in refused(Path("/dev/zero"))
    assert "is a folder" in refused(tmp_path)
    assert "is not there" in refused(tmp_path / "gone")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({5: torch.zeros(2)}, "the key 5"),
        ({"a": 1.0, **STATE}, "'a' is a float"),
        ([torch.zeros(2)], "no dictionary"),
        (torch.zeros(2), "no dictionary"),
        ({}, "no dictionary"),
        ({"weight": torch.eye(2).to_sparse()}, "sparse"),
        ({"weight": torch.eye(2).to_sparse_csr()}, "sparse"),
        ({"weight": torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8)}, "quantized"),
        ({"weight": torch.empty(2, 2, device="meta")}, "meta"),
    ],
)
def test_what_has_no_plain_values_by_name_is_refused(tmp_path: Path, content: Any, says: str) -> None:
    assert says in refused(saved(tmp_path / "w.pth", content))


@pytest.mark.parametrize(
    "kind", [torch.bool, torch.int8, torch.uint8, torch.int64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_numbers_of_another_kind_are_refused(tmp_path: Path, kind: torch.dtype) -> None:
    said = refused(saved(tmp_path / "w.pth", STATE | {"bias": torch.zeros(2).to(kind)}))
    assert f"tensor bias is {str(kind).removeprefix('torch.')}" in said


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    big = STATE | {"bias": torch.tensor([0.0, 1e200], dtype=torch.float64)}
    assert "bias holds values too large for float32" in refused(saved(tmp_path / "w.pth", big))
    for value in (float("nan"), float("inf"), -float("inf")):
        bad = STATE | {"bias": torch.tensor([0.0, value])}
        assert "bias holds values that are not finite" in refused(saved(tmp_path / "w.pth", bad))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_is_converted_with_a_warning(tmp_path: Path, kind: torch.dtype) -> None:
    path = saved(tmp_path / "w.pth", {k: v.to(kind) for k, v in STATE.items()})
    with pytest.warns(WeightsWarning, match=f"2 of 2 tensors are {str(kind).removeprefix('torch.')}"):
        model = put(read(path))
    assert equal(dict(model.state_dict()))
    assert model.weight.dtype == torch.float32


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(BadInputError, match="two tensors are called"):
        weights._swin_names({"head.weight": torch.zeros(1), "head.fc.weight": torch.zeros(1)}, "file")
