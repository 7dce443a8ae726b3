"""Train the two embedded digits models: `python -m vitq.benchmarks.train_digits`.

Writes `<model>.safetensors` and its card `<model>.yaml` into `--out` (the package's own `tasks/weights` by default).
One thread and seeded throughout: the same machine and versions give the same file, bit for bit. Recipe and
augmentation were chosen on the validation scans, so the card's accuracy is a little kind; epoch and seed were not.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path

import timm
import torch
import yaml
from safetensors.torch import save
from torch import Tensor, nn

from vitq.datasets import digit_scans, digits
from vitq.datasets.batches import Batch, mix, seed_of
from vitq.methods.training.trainer import Recipe, train
from vitq.subject import silent
from vitq.tasks import registry
from vitq.tasks.base import Data, LoadedModel, Measured, Places, Task
from vitq.tasks.names import model_entry

RECIPES = {
    "digits_vit": Recipe(epochs=100, lr=1e-3, weight_decay=0.05, warmup_epochs=5, clip_norm=1.0),
    "digits_swin": Recipe(epochs=100, lr=1.5e-3, weight_decay=0.05, warmup_epochs=5, clip_norm=1.0),
}
BATCH = 32
SEED = 0
MIXUP = 0.4


def untrained(name: str, task: Task) -> LoadedModel:
    """The model with weights drawn by the seed."""
    torch.manual_seed(SEED)
    return LoadedModel(name, task.build_model(name), model_entry(name).preprocessing, weights_sha256=None)


def fit(name: str, epochs: int | None = None) -> tuple[nn.Module, Recipe, dict[str, Measured]]:
    """Train one model on the digits' training split; the model, its recipe, its validation metrics."""
    recipe = (
        RECIPES[name] if epochs is None else Recipe(**{**vars(RECIPES[name]), "epochs": epochs, "warmup_epochs": 0})
    )
    task = registry.load("classification")
    loaded = untrained(name, task)
    data = task.open_data("digits", loaded, Places(), limit=None, seed=SEED, calibration={"train_batch": BATCH})
    assert data.training is not None

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return task.loss(task.forward(model, batch), batch)

    def report(epoch: int, model: nn.Module) -> dict[str, float]:
        if epoch % 10 == 9:
            print(f"{name} epoch {epoch + 1}: {_validate(task, model, data)['top1'].value:.2f} %", flush=True)
        return {}

    train(loaded.model, recipe, partial(mixed, data.training), loss, seed=SEED, on_epoch=report)
    return loaded.model, recipe, _validate(task, loaded.model, data)


def mixed(training: Callable[[int], Iterator[Batch]], epoch: int) -> Iterator[Batch]:
    """The batches of an epoch, images mixed in pairs."""
    batches = enumerate(training(epoch))
    return (mix(batch, digits.CLASSES, seed_of(SEED, epoch, i), MIXUP, cutmix=0.0) for i, batch in batches)


def _validate(task: Task, model: nn.Module, data: Data) -> dict[str, Measured]:
    return task.evaluate(model, data, silent)


def write(name: str, model: nn.Module, recipe: Recipe, metrics: dict[str, Measured], out: Path) -> None:
    """The weights and their card."""
    content = save({key: tensor.contiguous() for key, tensor in model.state_dict().items()})
    top1 = metrics["top1"]
    card = {
        "model": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "params": sum(p.numel() for p in model.parameters()),
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
            **{key: list(v) if isinstance(v, tuple) else v for key, v in vars(recipe).items()},
            "optimizer": "AdamW",
            "schedule": "linear warm-up, then half a cosine",
            "batch": BATCH,
            "loss": "cross entropy",
            "mixup": MIXUP,
            "label_smoothing": 0.1,
        },
        "augmentation": " ".join((digit_scans.jitter.__doc__ or "").split()),
        "validation": {"top1": round(top1.value, 4), "n": top1.n, "stderr": round(top1.stderr or 0.0, 4)},
        "note": "Recipe and augmentation were chosen on the validation scans, so their accuracy is a little kind; "
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
        model, recipe, metrics = fit(name, args.epochs)
        write(name, model, recipe, metrics, args.out)
        print(f"{name}: top-1 {metrics['top1'].value:.2f} % on {metrics['top1'].n} images, in {args.out}")


if __name__ == "__main__":
    main()
