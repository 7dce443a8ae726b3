"""What `vitq run --model ... --method ... --bits ...` asks for, as a suite of one task called `own`.

A checkpoint and a folder of images become a model and a data set that this run knows by name; where they lie is added
to the site, so that everything goes the way of any suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from vitq.api.meanings import refuse_name_and_file
from vitq.benchmarks.plan.cells import FP, expand
from vitq.benchmarks.plan.settings import read_settings, with_settings
from vitq.benchmarks.plan.site import Site
from vitq.benchmarks.plan.suite import Latency, MethodEntry, Suite, TaskEntry
from vitq.datasets import registry as datasets
from vitq.datasets.calibration import Calibration
from vitq.errors import BadInputError
from vitq.globs import is_glob, matching
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.tasks import names
from vitq.tasks.names import DATA_OF_CARDS, model_entry
from vitq.words import describe, nearest, short, unknown

if TYPE_CHECKING:
    from vitq.datasets.own import OwnFolder

OWN = "own"
"""The suite's name, and its results folder's."""
CHECKPOINTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


@dataclass(frozen=True)
class Wish:
    """The words of the command line, as they were given; `models` and `methods` may be patterns, `models` files too."""

    models: Sequence[str] = ()
    methods: Sequence[str] = ()
    bits: Sequence[str] = ()
    dataset: str | None = None
    data: Path | None = None
    labels: Path | None = None
    classes: Path | None = None
    architecture: str | None = None
    num_classes: int | None = None
    img_size: int | None = None
    images: int | None = None
    seeds: Sequence[int] = field(default=(0,))
    latency: bool = False
    settings: Sequence[str] = ()

    def words(self) -> list[str]:
        """The options that were given and have no meaning in a suite that ships."""
        given = {
            "--model": self.models, "--method": self.methods, "--bits": self.bits, "--dataset": self.dataset,
            "--data": self.data, "--labels": self.labels, "--classes": self.classes, "--images": self.images,
            "--architecture": self.architecture, "--num-classes": self.num_classes, "--img-size": self.img_size,
            "--seed": list(self.seeds) != [0], "--latency": self.latency,
        }  # fmt: skip
        return [name for name, value in given.items() if value]


def own_suite(wish: Wish, site: Site) -> tuple[Suite, Site]:
    """The suite and the site that knows its model's and data set's files; BadInputError for the first wrong word."""
    methods, widths = _methods(wish.methods), _bits(wish.bits)
    site, models = _models(wish, site)
    task = model_entry(models[0]).task
    site, dataset = _data(wish, site, models, task)
    try:
        suite = Suite(
            name=OWN,
            description="what was run without a suite",
            tasks=[TaskEntry(task=task, dataset=dataset, models=models)],
            methods=[
                MethodEntry(method=FP, bits=["FP32"], seeds=[0]),
                *(MethodEntry(method=m) for m in methods if m != FP),
            ],
            bits=widths or ["FP32"],
            seeds=list(dict.fromkeys(wish.seeds)),
            calibration=_calibration(wish.images),
            latency=Latency() if wish.latency else None,
        )
    except ValidationError as error:
        raise BadInputError(describe(error, Suite)) from None
    if not widths and methods != [FP]:
        raise BadInputError("name the widths by --bits, as --bits W4A4: weights and activations")
    _something_left(suite, methods)
    return with_settings(suite, read_settings(wish.settings, methods)), site


def _calibration(images: int | None) -> Calibration:
    return Calibration() if images is None else Calibration(images=images, batch=min(images, Calibration().batch))


def _methods(words: Sequence[str]) -> list[str]:
    if not words:
        raise BadInputError(f"name a method by --method; {nearest('', all_cards())}")
    found: list[str] = []
    for word in words:
        fitting = matching(all_cards(), word) if is_glob(word) else [word] if word in all_cards() else []
        if not fitting:
            raise BadInputError(f"--method: {unknown('method', word, all_cards())}")
        found += fitting
    return list(dict.fromkeys(found))


def _bits(words: Sequence[str]) -> list[str]:
    try:
        return list(dict.fromkeys(str(Bits.parse(word)) for word in words))
    except ValueError as error:
        raise BadInputError(f"--bits: {error}") from None


def _something_left(suite: Suite, methods: Sequence[str]) -> None:
    """Refuse what would end in the FP32 model alone, without a word on why."""
    cells, refused = expand(suite)
    if refused and methods != [FP] and all(cell.method == FP for cell in cells):
        raise BadInputError(
            f"nothing can be run at these widths: {refused[0].id.partition('/')[0]}: {refused[0].reason}"
        )


def _models(wish: Wish, site: Site) -> tuple[Site, list[str]]:
    if not wish.models:
        raise BadInputError("name a model by --model: a name (vitq list models), timm's name, or a checkpoint's file")
    found: list[str] = []
    for word in wish.models:
        refuse_name_and_file(word)
        if _is_file(word):
            site, name = _checkpoint(Path(word), wish, site)
            found.append(name)
        else:
            found += [_sized(name, wish) for name in _named(word)]
    tasks = {model_entry(name).task: name for name in reversed(found)}
    if len(tasks) > 1:
        raise BadInputError(
            f"models of one task can be run together: {' and '.join(f'{n} is for {t}' for t, n in tasks.items())}"
        )
    return site, list(dict.fromkeys(found))


def _is_file(word: str) -> bool:
    return not word.startswith("hf-hub:") and (word.lower().endswith(CHECKPOINTS) or Path(word).is_file())


def _named(word: str) -> list[str]:
    """A model's name, or those that fit a pattern: ours, else timm's."""
    if not is_glob(word):
        if not names.is_model(word):
            raise BadInputError(f"--model: {names.unknown_model(word)}")
        return [word]
    found = matching(names.model_names(), word)
    if not found:
        from vitq.tasks.own_models import timm_names

        found = matching(timm_names(), word)
    if not found:
        raise BadInputError(f"--model: no model's name fits {short(word)}: see `vitq list models {short(word)}`")
    return found


def _sized(name: str, wish: Wish) -> str:
    """The name of a model whose images have another size; what only files need is refused."""
    for option, value in (("--num-classes", wish.num_classes), ("--architecture", wish.architecture)):
        if value is not None:
            raise BadInputError(f"{option} is for a checkpoint of your own, as --model FILE; {name} is a model by name")
    if wish.img_size is None:
        return name
    from vitq.tasks.own_models import timm_entry

    sized = f"{name}-{wish.img_size}px"
    names.register([timm_entry(name, img_size=wish.img_size).model_copy(update={"name": sized})])
    return sized


def _checkpoint(path: Path, wish: Wish, site: Site) -> tuple[Site, str]:
    """A checkpoint of one's own as a model called after its file."""
    from vitq.methods.toolkit.saved_file import is_saved
    from vitq.tasks.own_models import own_entry

    if not path.is_file():
        raise BadInputError(f"--model {path}: no file is there")
    if is_saved(path):
        raise BadInputError(f"--model {path} is quantized already: `vitq evaluate {path}` measures it")
    if wish.architecture is None:
        raise BadInputError(f"--model {path}: say what it is a checkpoint of, by --architecture and timm's name")
    name = path.stem if path.stem not in names.model_entries() else f"own-{path.stem}"
    entry = own_entry(
        name, wish.architecture, num_classes=wish.num_classes, img_size=wish.img_size, weights=path.absolute()
    )
    names.register([entry])
    return site.model_copy(update={"weights": {**site.weights, name: path.absolute()}}), name


def _data(wish: Wish, site: Site, models: Sequence[str], task: str) -> tuple[Site, str]:
    """The name of the data set; a folder of one's own is known by its name from now on."""
    if wish.dataset is not None and wish.data is not None:
        raise BadInputError("--dataset names a data set, --data a folder: give one of them")
    if wish.data is None:
        for option, value in (("--labels", wish.labels), ("--classes", wish.classes)):
            if value is not None:
                raise BadInputError(f"{option} says what the images of a folder are: give the folder by --data")
        return site, _dataset(wish.dataset, models, task)
    from vitq.datasets.own import own_data

    if task != "classification":
        raise BadInputError(f"{models[0]} is for {task}: a folder of images is for classification")
    own, folder = own_data(wish.data, labels=wish.labels, classes=wish.classes, hub=site.hub)
    _tells_apart(models, own)
    datasets.register([own])
    return site.model_copy(update={"datasets": {**site.datasets, own.name: folder.absolute()}}), own.name


def _tells_apart(models: Sequence[str], own: OwnFolder) -> None:
    """BadInputError for a model of another number of classes than the folder has, before anything runs."""
    import torch

    from vitq.tasks.registry import load

    for name in models:
        with torch.device("meta"):
            classes = getattr(load("classification").build_model(name), "num_classes", None)
        if classes is not None:
            own.of_classes(classes)


def _dataset(name: str | None, models: Sequence[str], task: str) -> str:
    known = datasets.DATASETS.names()
    if name is not None:
        if name not in known:
            raise BadInputError(f"--dataset: {unknown('data set', name, known)}")
        return name
    if all(model_entry(model).packaged for model in models):
        return DATA_OF_CARDS[task]
    fitting = [each for each in known if datasets.load(each).task == task]
    raise BadInputError(
        f"say what {models[0]} is evaluated on: --data FOLDER with a folder a class, or --dataset NAME of "
        f"{', '.join(fitting)}"
    )
