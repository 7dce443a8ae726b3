"""Train the small models of the embedded digit scenes: `python -m vitq.benchmarks.train_scenes`.

Writes `<model>.safetensors` and its card `<model>.yaml` into `--out` (the package's own `tasks/weights` by default).
One thread and seeded throughout. Recipes, sizes and scenes were chosen on the validation scenes, so the cards' metrics
are a little kind; epoch and seed were not. A segmenter starts from the backbone of a detector, which learns to tell
digits apart in a fraction of the time; that of the ViT is trained for this alone and is not kept.
"""

from __future__ import annotations

import argparse
import hashlib
from contextlib import suppress
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vitq.benchmarks.uneven_channels import make_part_uneven
from vitq.datasets import scene_drawing
from vitq.datasets.digit_scene_data import pixels_sha256
from vitq.datasets.digit_scenes import SPLITS
from vitq.datasets.scenes import Batch
from vitq.methods.training.trainer import Recipe, train
from vitq.subject import silent
from vitq.tasks import registry
from vitq.tasks.base import Data, LoadedModel, Measured, Places, Task
from vitq.tasks.mm_inputs import samples_of, stacked
from vitq.tasks.names import Configured, ModelEntry, model_entry

RECIPES = {
    "digits_mask_rcnn": Recipe(
        epochs=14, lr=1e-3, weight_decay=0.05, warmup_epochs=1, clip_norm=5.0, decay_vectors=False
    ),
    "digits_upernet_swin": Recipe(
        epochs=8, lr=1e-3, weight_decay=0.02, warmup_epochs=1, clip_norm=5.0, decay_vectors=False
    ),
    "digits_mask_rcnn_vit": Recipe(
        epochs=14, lr=1e-3, weight_decay=0.05, warmup_epochs=1, clip_norm=5.0, decay_vectors=False
    ),
    "digits_mask_rcnn_deep": Recipe(
        epochs=14, lr=1e-3, weight_decay=0.05, warmup_epochs=1, clip_norm=5.0, decay_vectors=False
    ),
    "digits_upernet_vit": Recipe(
        epochs=8, lr=1e-3, weight_decay=0.02, warmup_epochs=1, clip_norm=5.0, decay_vectors=False
    ),
}
STARTS_FROM = {"digits_upernet_swin": "digits_mask_rcnn_deep", "digits_upernet_vit": "digits_mask_rcnn_vit"}
"""Whose backbone a model's starts with."""
NOT_KEPT = ("digits_mask_rcnn_vit", "digits_mask_rcnn_deep")
"""Trained for its backbone; built as the detector is, with a configuration of its own."""
STOPS = {"digits_mask_rcnn_vit": 6, "digits_mask_rcnn_deep": 6}
"""After how many epochs of its schedule a model that is not kept is good enough to start from."""
CYCLES = {"digits_upernet_vit": 8, "digits_upernet_swin": 4}
"""How often a schedule is run, each from where the last one ended (warm restarts, arXiv 1608.03983); once else."""
UNEVEN = 0.35
"""How far the backbones' channels are spread after training (`uneven_channels`): so far that min/max at 4 bits falls
clearly below FP32."""
DATA = {"detection": "digit-scenes", "segmentation": "digit-scenes-maps"}
BATCH, SEED = 8, 0
PAPER = 0.3
"""The weight of paper in a segmenter's loss; digits have 1."""


class _EnoughError(Exception):
    """A model that is not kept has been trained enough."""


def loss(task: str, model: nn.Module, batch: Batch) -> Tensor:
    """The detector's own losses, summed; a segmenter's cross entropy, in which paper weighs less."""
    if task == "detection":
        found = model(stacked(batch, 32), samples_of(batch, 32), mode="loss")
        terms = [value for name, value in found.items() if "loss" in name]
        return torch.stack(
            [term.sum() if isinstance(term, Tensor) else torch.stack(term).sum() for term in terms]
        ).sum()
    logits = model.decode_head(model.extract_feat(stacked(batch, 1)))  # type: ignore[operator]
    maps = torch.stack([scene.label_map for scene in batch if scene.label_map is not None]).long()
    weights = torch.tensor([PAPER] + [1.0] * 10)
    full = nn.functional.interpolate(logits, maps.shape[1:], mode="bilinear", align_corners=False)
    return cross_entropy(full, maps, weights, ignore_index=255)


def start(name: str, out: Path, task: Task) -> LoadedModel:
    """The model with weights drawn by the seed, its backbone another model's where `STARTS_FROM` says so."""
    torch.manual_seed(SEED)
    entry = entry_of(name)
    model = task.build_entry(entry)
    model.init_weights()  # type: ignore[operator]
    if name in STARTS_FROM:
        given = load_file(trained_file(STARTS_FROM[name], out))
        backbone = {key.removeprefix("backbone."): t for key, t in given.items() if key.startswith("backbone.")}
        model.backbone.load_state_dict(backbone)  # type: ignore[union-attr]
    return LoadedModel(name, model, entry.preprocessing, weights_sha256=None)


def entry_of(name: str) -> ModelEntry:
    """A model's entry; that of a model that is not kept is the detector's with another configuration."""
    if name not in NOT_KEPT:
        return model_entry(name)
    return model_entry("digits_mask_rcnn").model_copy(update={"build": Configured(config=f"vitq::{name}.py")})


def weights_file(name: str, out: Path) -> Path:
    """Where a trained model's weights are."""
    return out / f"{name}.{'partial' if name in NOT_KEPT else 'safetensors'}"


def trained_file(name: str, out: Path) -> Path:
    """Where the weights are as training left them, of the last epochs that were run."""
    return out / f"{name}.partial"


def fit(name: str, out: Path, epochs: int | None = None, *, done: int = 0) -> tuple[nn.Module, Recipe, Data, Task]:
    """Train one model on scenes that are drawn anew in every epoch, and spread its backbone's channels.

    `done` goes on from the weights that so many cycles of an earlier run left.
    """
    recipe = RECIPES[name]
    if epochs is not None:
        recipe = Recipe(**{**vars(recipe), "epochs": epochs, "warmup_epochs": 0})
    kind = entry_of(name).task
    task = registry.load(kind)
    loaded = start(name, out, task)
    data = task.open_data(DATA[kind], loaded, Places(), limit=None, seed=SEED, calibration={"train_batch": BATCH})
    assert data.training is not None
    if done:
        loaded.model.load_state_dict(load_file(trained_file(name, out)))

    def report(epoch: int, model: nn.Module) -> dict[str, float]:
        if epoch % 2 == 1:
            trained_file(name, out).write_bytes(save({k: t.contiguous() for k, t in model.state_dict().items()}))
            shown = {key: round(m.value, 2) for key, m in task.evaluate(model, data, silent).items()}
            print(f"{name} epoch {epoch + 1}: {shown}", flush=True)
        if epoch + 1 == STOPS.get(name):
            raise _EnoughError
        return {}

    for cycle in range(done, CYCLES.get(name, 1)):
        with suppress(_EnoughError):
            train(
                loaded.model, recipe, data.training, lambda model, batch: loss(kind, model, batch), seed=SEED + cycle,
                on_epoch=report,
            )  # fmt: skip
    return _uneven(name, loaded.model.eval()), recipe, data, task


def _uneven(name: str, model: nn.Module) -> nn.Module:
    """The model with its backbone's channels spread, where it is kept."""
    if name not in NOT_KEPT:
        make_part_uneven(model.backbone, SEED, UNEVEN)  # type: ignore[arg-type]
    return model


def write(name: str, model: nn.Module, recipe: Recipe, measured: dict[str, Measured], out: Path) -> None:
    """The weights and their card."""
    content = save({key: tensor.contiguous() for key, tensor in model.state_dict().items()})
    weights_file(name, out).write_bytes(content)
    if name in NOT_KEPT:
        return
    card = card_of(name, content, sum(p.numel() for p in model.parameters()), recipe, measured)
    (out / f"{name}.yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=120, allow_unicode=True))


def card_of(name: str, content: bytes, params: int, recipe: Recipe, measured: dict[str, Measured]) -> dict[str, Any]:
    """What a card says of weights and how they were made."""
    detects = model_entry(name).task == "detection"
    first = next(iter(measured.values()))
    versions = {each: metadata.version(each) for each in ("torch", "onedl-mmdetection", "onedl-mmsegmentation")}
    started = f"; the backbone starts from {STARTS_FROM[name]}'s" if name in STARTS_FROM else ""
    return {
        "model": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "params": params,
        "made_by": "python -m vitq.benchmarks.train_scenes",
        "data": {
            "name": "scenes of Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI, 1998)",
            "source": "sklearn.datasets.load_digits",
            "license": "CC BY 4.0",
            "sha256": pixels_sha256(),
        },
        "split": dict(SPLITS),
        "seed": SEED,
        "threads": torch.get_num_threads(),
        "recipe": {
            **{key: list(v) if isinstance(v, tuple) else v for key, v in vars(recipe).items()},
            "optimizer": "AdamW",
            "schedule": "linear warm-up, then half a cosine",
            "batch": BATCH,
            "cycles": CYCLES.get(name, 1),
            "loss": f"{'the losses of RPN, boxes and masks' if detects else f'cross entropy, paper {PAPER}'}{started}",
        },
        "augmentation": "every epoch's scenes drawn anew. "
        + " ".join((scene_drawing.draw_scene.__doc__ or "").split()),
        "rescaled": f"each channel after a backbone's LayerNorm divided by r, log r {UNEVEN} x Student's t (2 degrees)",
        "validation": {
            "metrics": {key: round(m.value, 4) for key, m in measured.items()},
            "stderr": {key: round(m.stderr, 4) for key, m in measured.items() if m.stderr is not None},
            "n": first.n,
        },
        "note": "Recipe, sizes and scenes were chosen on the validation scenes, so their metrics are a little kind; "
        "epoch and seed were not.",
        "versions": versions,
    }


def main() -> None:
    """Train the models named on the command line, or all three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=RECIPES, action="append", help="one of the three; all by default")
    parser.add_argument("--out", type=Path, default=Path(str(resources.files("vitq.tasks").joinpath("weights"))))
    parser.add_argument("--epochs", type=int, default=None, help="fewer epochs, to try the script")
    parser.add_argument("--done", type=int, default=0, help="go on after so many cycles that an earlier run made")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.model or RECIPES:
        model, recipe, data, task = fit(name, args.out, args.epochs, done=args.done)
        measured = task.evaluate(model, data, silent)
        write(name, model, recipe, measured, args.out)
        print(f"{name}: { ({key: round(m.value, 2) for key, m in measured.items()}) }, in {args.out}")


if __name__ == "__main__":
    main()
