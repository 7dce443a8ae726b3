"""Train the two embedded digits models: `python -m vitq.benchmarks.train_digits`.

Writes `<model>.safetensors` and its card `<model>.yaml` into `--out` (the package's own `tasks/weights` by default).
One thread and seeded throughout: the same machine and versions give the same file, bit for bit. Recipe, sizes and
distortion were chosen on the validation scans, so the card's accuracy is a little kind; epoch and seed were not.

The last step changes no output: it makes the channels after LayerNorm as uneven as a real model's (`uneven_channels`).
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import timm
import torch
import yaml
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vitq.benchmarks.uneven_channels import Unevenness, make_uneven, unevenness
from vitq.datasets import digit_distortion, digit_scans, digits
from vitq.methods.training.trainer import Recipe, train
from vitq.subject import silent
from vitq.tasks import registry
from vitq.tasks.base import Data, LoadedModel, Measured, Places, Task
from vitq.tasks.names import model_entry

RECIPES = {
    "digits_vit": Recipe(epochs=200, lr=2e-3, weight_decay=0.05, warmup_epochs=5, clip_norm=1.0, decay_vectors=False),
    "digits_swin": Recipe(epochs=120, lr=2e-3, weight_decay=0.05, warmup_epochs=5, clip_norm=1.0, decay_vectors=False),
}
BATCH = 32
SEED = 0
SMOOTHING = 0.1


def untrained(name: str, task: Task) -> LoadedModel:
    """The model with weights drawn by the seed."""
    torch.manual_seed(SEED)
    return LoadedModel(name, task.build_model(name), model_entry(name).preprocessing, weights_sha256=None)


@dataclass(frozen=True)
class Fitted:
    """A trained model: its recipe, validation metrics, and how uneven its channels were and are."""

    model: nn.Module
    recipe: Recipe
    metrics: dict[str, Measured]
    unevenness: dict[str, Unevenness]


def fit(name: str, epochs: int | None = None) -> Fitted:
    """Train one model on the digits' training split, distorted anew in every epoch, and make its channels uneven."""
    recipe = (
        RECIPES[name] if epochs is None else Recipe(**{**vars(RECIPES[name]), "epochs": epochs, "warmup_epochs": 0})
    )
    task = registry.load("classification")
    loaded = untrained(name, task)
    data = task.open_data("digits", loaded, Places(), limit=None, seed=SEED, calibration={"train_batch": BATCH})
    assert data.training is not None

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(task.forward(model, batch), batch[1], label_smoothing=SMOOTHING)

    def report(epoch: int, model: nn.Module) -> dict[str, float]:
        if epoch % 10 == 9:
            print(f"{name} epoch {epoch + 1}: {_validate(task, model, data)['top1'].value:.2f} %", flush=True)
        return {}

    train(loaded.model, recipe, data.training, loss, seed=SEED, on_epoch=report)
    images = next(data.calibration())[0]
    trained = unevenness(loaded.model, images)
    make_uneven(loaded.model, SEED)
    spread = {"trained": trained, "rescaled": unevenness(loaded.model, images)}
    return Fitted(loaded.model, recipe, _validate(task, loaded.model, data), spread)


def _validate(task: Task, model: nn.Module, data: Data) -> dict[str, Measured]:
    return task.evaluate(model, data, silent)


def write(name: str, fitted: Fitted, out: Path) -> None:
    """The weights and their card."""
    content = save({key: tensor.contiguous() for key, tensor in fitted.model.state_dict().items()})
    top1 = fitted.metrics["top1"]
    card = {
        "model": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "params": sum(p.numel() for p in fitted.model.parameters()),
        "made_by": "python -m vitq.benchmarks.train_digits",
        "data": {
            "name": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI, 1998), test part",
            "source": "sklearn.datasets.load_digits",
            "license": "CC BY 4.0",
            "sha256": digit_scans.sha256(),
        },
        "split": {split: len(indices) for split, indices in digits.splits().items()},
        "seed": SEED,
        "threads": torch.get_num_threads(),
        "recipe": {
            **{key: list(v) if isinstance(v, tuple) else v for key, v in vars(fitted.recipe).items()},
            "optimizer": "AdamW",
            "schedule": "linear warm-up, then half a cosine",
            "batch": BATCH,
            "loss": "cross entropy",
            "label_smoothing": SMOOTHING,
        },
        "augmentation": " ".join((digit_distortion.distort.__doc__ or "").split()),
        "rescaled": " ".join((make_uneven.__doc__ or "").split()),
        "unevenness": {
            when: {name: round(value, 2) for name, value in vars(found).items()}
            for when, found in fitted.unevenness.items()
        },
        "validation": {"top1": round(top1.value, 4), "n": top1.n, "stderr": round(top1.stderr or 0.0, 4)},
        "note": "Recipe, sizes and distortion were chosen on the validation scans, so their accuracy is a little kind; "
        "epoch and seed were not.",
        "versions": {"torch": str(torch.__version__), "timm": timm.__version__},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.safetensors").write_bytes(content)
    (out / f"{name}.yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=120, allow_unicode=True))


def main() -> None:
    """Train the models named on the command line, or both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=RECIPES, action="append", help="one of the two; both by default")
    parser.add_argument("--out", type=Path, default=Path(str(resources.files("vitq.tasks").joinpath("weights"))))
    parser.add_argument("--epochs", type=int, default=None, help="fewer epochs, to try the script")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.model or RECIPES:
        fitted = fit(name, args.epochs)
        write(name, fitted, args.out)
        top1 = fitted.metrics["top1"]
        print(f"{name}: top-1 {top1.value:.2f} % on {top1.n} images, in {args.out}")


if __name__ == "__main__":
    main()
