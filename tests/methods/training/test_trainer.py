"""The training loop: schedule, exact resuming (a real kill -9 included), refused checkpoints, several processes."""

from __future__ import annotations

import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from vitq.errors import MethodInputError
from vitq.methods.training.trainer import History, Recipe, learning_rate, train

Pair = tuple[Tensor, Tensor]
RECIPE = Recipe(epochs=4, lr=1e-2, weight_decay=0.1, warmup_epochs=1.5, min_lr=1e-4, clip_norm=0.5)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Dropout(0.3), nn.Linear(12, 3))


def batches(epoch: int) -> Iterator[Pair]:
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(5):
        yield torch.randn(8, 6, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def noisy_loss(model: nn.Module, batch: Pair) -> Tensor:
    """Draws from all three global generators, which a resumed run must find as they were."""
    x = batch[0] * (1 + 0.1 * random.random() + 0.1 * float(np.random.rand()))
    return F.cross_entropy(model(x), batch[1])


def run(
    checkpoint: Path | None = None, recipe: Recipe = RECIPE, seed: int = 0, stop: int | None = None
) -> tuple[History, dict[str, Tensor]]:
    model = small_model()

    def on_epoch(epoch: int, model: nn.Module) -> dict[str, float]:
        assert not model.training
        if epoch == stop:
            raise KeyboardInterrupt
        return {"twice": 2.0 * epoch}

    history = train(model, recipe, batches, noisy_loss, seed=seed, checkpoint=checkpoint, on_epoch=on_epoch)
    return history, model.state_dict()


def run_plain() -> tuple[History, dict[str, Tensor]]:
    model = small_model()
    return train(model, RECIPE, batches, noisy_loss, seed=0), model.state_dict()


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_schedule_warms_up_linearly_then_follows_half_a_cosine() -> None:
    recipe = Recipe(epochs=10, lr=1.0, warmup_epochs=2, min_lr=0.1)
    rates = [learning_rate(recipe, step, 4) for step in range(40)]
    assert rates[:8] == pytest.approx([(i + 1) / 8 for i in range(8)])
    assert rates[8] == pytest.approx(1.0)
    assert rates[24] == pytest.approx(0.55)
    assert rates[39] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 31 / 32)) / 2)
    assert learning_rate(recipe, 40, 4) == pytest.approx(0.1)


def test_schedule_by_epochs_is_timms_stepped_after_each_epoch() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=3e-6)
    scheduler = CosineLRScheduler(optimizer, t_initial=6, lr_min=2e-7)
    recipe = Recipe(epochs=6, lr=3e-6, min_lr=2e-7, schedule="epochs")
    for epoch in range(6):
        rates = [learning_rate(recipe, epoch * 5 + i, 5) for i in range(5)]
        assert rates == pytest.approx([optimizer.param_groups[0]["lr"]] * 5, rel=1e-12)
        scheduler.step(epoch)
    with pytest.raises(MethodInputError, match="no warm-up"):
        Recipe(epochs=6, lr=1.0, warmup_epochs=1, schedule="epochs")


def test_weight_decay_may_spare_vectors() -> None:
    # no gradient reaches a loss that is scaled away, so that decay alone moves a parameter
    def decayed(decay_vectors: bool) -> set[str]:
        model = small_model()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        recipe = Recipe(epochs=1, lr=1e-2, weight_decay=0.5, decay_vectors=decay_vectors)
        train(model, recipe, batches, lambda m, b: 0 * F.cross_entropy(m(b[0]), b[1]), seed=0)
        return {name for name, p in model.named_parameters() if not torch.equal(p, before[name]) and p.ndim}

    assert decayed(True) == {"0.weight", "0.bias", "1.weight", "3.weight", "3.bias"}
    assert decayed(False) == {"0.weight", "3.weight"}


def test_history_has_a_row_an_epoch_with_the_rate_of_its_last_step() -> None:
    history, _ = run()
    assert [row["epoch"] for row in history] == [0, 1, 2, 3]
    assert [row["twice"] for row in history] == [0, 2, 4, 6]
    assert [row["lr"] for row in history] == pytest.approx([learning_rate(RECIPE, 5 * e + 4, 5) for e in range(4)])
    assert all(math.isfinite(row["loss"]) for row in history)


def test_training_learns_what_can_be_learned() -> None:
    torch.manual_seed(0)
    model, weight = nn.Linear(6, 3), torch.randn(3, 6)
    data = [(x := torch.randn(32, 6), (x @ weight.T).argmax(1)) for _ in range(8)]
    history = train(model, Recipe(20, 0.05), lambda _: iter(data), lambda m, b: F.cross_entropy(m(b[0]), b[1]), seed=0)
    assert history[-1]["loss"] < 0.25 * history[0]["loss"]


def test_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    first, second, other = run(), run(), run(seed=1)
    assert first[0] == second[0]
    assert equal(first[1], second[1])
    assert first[0] != other[0]


def test_global_generators_are_left_alone() -> None:
    states = torch.get_rng_state(), random.getstate()
    model = nn.Linear(6, 3)
    states = torch.get_rng_state(), random.getstate()
    train(model, Recipe(1, 0.1), batches, noisy_loss, seed=5)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path: Path, stop: int) -> None:
    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "t.pt", stop=stop)
    again = run(tmp_path / "t.pt")
    assert again[0] == whole[0]
    assert equal(again[1], whole[1])


def test_a_finished_run_is_read_back_without_training(tmp_path: Path) -> None:
    whole = run(tmp_path / "t.pt")
    model = small_model()

    def no_batches(epoch: int) -> Iterator[Pair]:
        raise AssertionError(f"epoch {epoch} was trained again")

    assert train(model, RECIPE, no_batches, noisy_loss, seed=0, checkpoint=tmp_path / "t.pt") == whole[0]
    assert equal(model.state_dict(), whole[1])


@pytest.mark.parametrize(("recipe", "seed", "word"), [(Recipe(4, 2e-2), 0, "recipe"), (RECIPE, 7, "seed was 0, is 7")])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, recipe: Recipe, seed: int, word: str) -> None:
    run(tmp_path / "t.pt")
    with pytest.raises(MethodInputError, match=word):
        run(tmp_path / "t.pt", recipe, seed)


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_named_in_one_line(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "t.pt"
    run(path)
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(MethodInputError, match=r"t\.pt cannot be read") as error:
        run(path)
    assert "\n" not in str(error.value)


def test_only_the_chosen_parameters_change() -> None:
    model = small_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train(model, RECIPE, batches, noisy_loss, seed=0, parameters=model[3].parameters())
    assert torch.equal(before["0.weight"], model[0].weight)
    assert not torch.equal(before["3.weight"], model[3].weight)
    assert all(p.requires_grad for p in model.parameters())
    assert model.training


def test_clipping_bounds_the_gradient_that_the_optimizer_sees() -> None:
    model, norms = nn.Linear(6, 3), []

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        return 1000 * F.cross_entropy(model(batch[0]), batch[1])

    def on_epoch(_: int, model: nn.Module) -> dict[str, float]:
        norms.append(float(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()))
        return {}

    train(model, Recipe(2, 1e-3, clip_norm=0.5), batches, loss, seed=0, on_epoch=on_epoch)
    assert norms == pytest.approx([0.5, 0.5], rel=1e-3)


def test_bad_input_is_told_in_one_line() -> None:
    model = small_model()
    with pytest.raises(MethodInputError, match="lower lr"):
        train(model, RECIPE, batches, lambda m, b: noisy_loss(m, b) * float("nan"), seed=0)
    with pytest.raises(MethodInputError, match="0 batches"):
        train(model, RECIPE, lambda _: iter([]), noisy_loss, seed=0)
    with pytest.raises(MethodInputError, match="require a gradient"):
        train(model.requires_grad_(False), RECIPE, batches, noisy_loss, seed=0)
    with pytest.raises(MethodInputError, match="epochs -1"):
        Recipe(-1, 0.1)
    with pytest.raises(MethodInputError, match="clip_norm"):
        Recipe(1, 0.1, clip_norm=0.0)


def test_progress_ends_at_its_total() -> None:
    seen: list[tuple[str, int, int]] = []
    train(small_model(), RECIPE, batches, noisy_loss, seed=0, progress=lambda *a: seen.append(a))
    assert seen == [("train", i + 1, 20) for i in range(20)]


CHILD = """
import sys, time, importlib.util
from pathlib import Path
import torch
spec = importlib.util.spec_from_file_location("trainer_test", sys.argv[1])
test = importlib.util.module_from_spec(spec); spec.loader.exec_module(test)
torch.set_num_threads(1)
test.child(Path(sys.argv[2]), float(sys.argv[3]))
"""


def child(folder: Path, pause: float) -> None:
    """What a subprocess trains: slowly, so that it can be killed in the middle."""
    model = small_model()

    def loss(model: nn.Module, batch: Pair) -> Tensor:
        time.sleep(pause)
        return noisy_loss(model, batch)

    history = train(model, RECIPE, batches, loss, seed=0, checkpoint=folder / "t.pt")
    rank = os.environ.get("RANK", "0")
    torch.save({"model": model.state_dict(), "history": history}, folder / f"end{rank}.pt")


def start(folder: Path, pause: float, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, __file__, str(folder), str(pause)]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_an_epoch_ends_in_the_same_bits(tmp_path: Path) -> None:
    killed = start(tmp_path, 0.1)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "t.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.25)
    finally:
        killed.send_signal(signal.SIGKILL)
        _, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, errors.decode()
    assert not (tmp_path / "end0.pt").exists()
    half = torch.load(tmp_path / "t.pt", weights_only=True)["history"]
    assert 0 < len(half) < RECIPE.epochs

    resumed = start(tmp_path, 0.0)
    _, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, errors.decode()
    end = torch.load(tmp_path / "end0.pt", weights_only=True)
    history, weights = run_plain()
    assert end["history"] == history
    assert equal(end["model"], weights)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    both = [start(tmp_path, 0.0, RANK=str(r), LOCAL_RANK=str(r), **shared) for r in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors.decode()
    first, second = (torch.load(tmp_path / f"end{r}.pt", weights_only=True) for r in range(2))
    assert equal(first["model"], second["model"])
    assert first["history"] == second["history"]
    assert all(torch.isfinite(t).all() for t in first["model"].values())
    assert [row["lr"] for row in first["history"]] == pytest.approx(
        [learning_rate(RECIPE, 2 * e + 1, 2) for e in range(4)]
    )
    state = torch.load(tmp_path / "t.pt", weights_only=True)
    assert state["signature"]["processes"] == 2
    with pytest.raises(MethodInputError, match="processes was 2, is 1"):
        run(tmp_path / "t.pt")
