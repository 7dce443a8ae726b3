"""Images from a model alone: Adam over a batch of images in normalized space, and the priors that shape them.

PSAQ-ViT (arXiv 2203.02250) optimizes images for patch diversity, class evidence and smoothness; V2
(arXiv 2209.05687) for the difference of two models. Both share the steps here: jitter, flip, descend, clamp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.architectures.explicit import ExplicitWindowAttention
from vitq.methods.psaq_vit.patch_similarity import DropToken, PatchEntropy
from vitq.subject import InputSpec, Progress, Subject

Curves = dict[str, list[float]]
"""Loss terms by name, a value an iteration."""
Terms = dict[str, Tensor]
"""Loss terms by name; the optimized loss is `total`."""

_PAPER_ELEMENTS = 32 * 3 * 224 * 224
_PAPER_SIDE = 224


@dataclass(frozen=True)
class ImageRecipe:
    """How images are optimized; the defaults are PSAQ-ViT's.

    Attributes:
        images: how many, as one batch.
        iterations: of a round; PSAQ-ViT has two rounds.
        lr: Adam's peak rate; None is 0.25 for window attention (Swin) and 0.20 otherwise (ViT, DeiT).
        bandwidth: of the kernel density.
        points: at which the density is taken.
        entropy_weight, one_hot_weight, tv_weight: of the loss terms.
        tv_low, tv_high: the target of the total variation is uniform between them, for 32 images of 3x224x224.
        warmup: share of a round's iterations in which the rate rises linearly.
        jitter_first, jitter_second: largest roll in the rounds, in pixels of a 224-pixel image.
        flip: probability of a horizontal flip of the whole batch.
        drop_token: which attentions leave out token 0.
    """

    images: int = 32
    iterations: int = 500
    lr: float | None = None
    bandwidth: float = 0.01
    points: int = 10
    entropy_weight: float = 1.0
    one_hot_weight: float = 1.0
    tv_weight: float = 0.05
    tv_low: float = 2500.0
    tv_high: float = 3000.0
    warmup: float = 0.2
    jitter_first: int = 15
    jitter_second: int = 30
    flip: float = 0.5
    drop_token: DropToken = "first"

    def generation_fields(self) -> set[str]:
        """Options that only generated images depend on: every one of these but their number."""
        return {f.name for f in fields(ImageRecipe)} - {"images"}

    def check(self) -> None:
        """Raise MethodInputError for values that give no images."""
        if self.images < 1:
            raise MethodInputError(f"images is {self.images}: give at least 1 image to calibrate on")
        if self.iterations < 1:
            raise MethodInputError(
                f"iterations is {self.iterations}: give at least 1, or calibration: gaussian for images that are noise"
            )
        if self.bandwidth <= 0 or self.points < 2 or (self.lr is not None and self.lr <= 0):
            raise MethodInputError("bandwidth and lr must be positive and points at least 2")
        if not 0 <= self.warmup < 1 or not 0 <= self.flip <= 1 or self.tv_low > self.tv_high:
            raise MethodInputError("want 0 <= warmup < 1, 0 <= flip <= 1 and tv_low <= tv_high")


@dataclass
class Generated:
    """Images [B, C, H, W] in normalized space on the CPU, loss curves, and what was drawn or derived on the way."""

    images: Tensor
    curves: Curves = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)


def gaussian_images(count: int, spec: InputSpec, generator: torch.Generator) -> Tensor:
    """N(0, 1) in normalized space, [count, C, H, W] on the CPU."""
    return torch.randn(count, *spec.size, generator=generator)


def total_variation(images: Tensor) -> Tensor:
    """Sum of the L2 norms, each over the whole batch, of the differences of neighbours in 4 directions; a scalar.

    Horizontal, vertical and both diagonals, as in DeepInversion (Yin et al., 2020).
    """
    right, left = images[..., 1:], images[..., :-1]
    differences = (
        right - left,
        images[..., 1:, :] - images[..., :-1, :],
        right[..., 1:, :] - left[..., :-1, :],
        left[..., 1:, :] - right[..., :-1, :],
    )
    return torch.stack([d.norm() for d in differences]).sum()


def variation_scale(shape: torch.Size | tuple[int, ...]) -> float:
    """Factor on the total-variation target for a batch of this shape, 1 for the paper's 32 x 3 x 224 x 224.

    An L2 norm of n differences of fixed mean square grows as sqrt(n), so the factor is sqrt(elements / paper's).
    """
    return math.sqrt(math.prod(shape) / _PAPER_ELEMENTS)


def clip_images(images: Tensor, spec: InputSpec) -> Tensor:
    """Clamp every channel to what a pixel of 0..1 can be, [-mean/std, (1 - mean)/std]; same shape."""
    mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (spec.mean, spec.std))
    return torch.minimum(torch.maximum(images, -mean / std), (1 - mean) / std)


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rate at `step` of a round: linear over its `warmup` share, then half a cosine to 0."""
    rise = round(steps * warmup)
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


class ImageOptimizer:
    """A batch of images and the Adam that moves it; the optimizer's state is kept between rounds."""

    def __init__(self, images: Tensor, spec: InputSpec, recipe: ImageRecipe, lr: float, generator: torch.Generator):
        self.images = images.clone().requires_grad_()
        self.spec, self.recipe, self.lr, self.generator = spec, recipe, lr, generator
        self.adam = torch.optim.Adam([self.images], lr=lr, betas=(0.5, 0.9))
        self.curves: Curves = {}

    def round(
        self, iterations: int, jitter: int, terms: Callable[[Tensor], Terms], tick: Callable[[int], None]
    ) -> None:
        """Descend `terms(images)["total"]`, the images rolled by up to `jitter` pixels and flipped at random."""
        for step in range(iterations):
            for group in self.adam.param_groups:
                group["lr"] = self.lr * warmup_cosine(step, iterations, self.recipe.warmup)
            losses = terms(self._augmented(jitter))
            if not bool(torch.isfinite(losses["total"])):
                raise MethodInputError("image generation diverged: a loss is not finite; lower lr or check the weights")
            (self.images.grad,) = torch.autograd.grad(losses["total"], [self.images])
            self.adam.step()
            with torch.no_grad():
                self.images.copy_(clip_images(self.images, self.spec))
            for name, value in losses.items():
                self.curves.setdefault(name, []).append(float(value.detach()))
            tick(step + 1)

    def _augmented(self, jitter: int) -> Tensor:
        """One offset for both directions, one coin for the batch."""
        offset = int(torch.randint(-jitter, jitter + 1, (), generator=self.generator))
        flipped = float(torch.rand((), generator=self.generator)) < self.recipe.flip
        rolled = self.images.roll((offset, offset), dims=(2, 3))
        return rolled.flip(3) if flipped else rolled


def image_lr(model: nn.Module, recipe: ImageRecipe) -> float:
    """The recipe's learning rate, or the paper's for the kind of attention."""
    windows = any(isinstance(m, ExplicitWindowAttention) for m in model.modules())
    return recipe.lr if recipe.lr is not None else (0.25 if windows else 0.20)


def scaled_jitter(pixels: int, spec: InputSpec) -> int:
    """A roll given for a side of 224 pixels, as the same share of this input's side."""
    return round(pixels * spec.size[-1] / _PAPER_SIDE)


def variation_target(recipe: ImageRecipe, shape: torch.Size, generator: torch.Generator) -> float:
    """Uniform in [tv_low, tv_high], drawn once, scaled to the batch's shape."""
    drawn = recipe.tv_low + (recipe.tv_high - recipe.tv_low) * float(torch.rand((), generator=generator))
    return drawn * variation_scale(shape)


def generate(job: Subject, model: nn.Module, recipe: ImageRecipe) -> Generated:
    """PSAQ-ViT's images: L = -sum of entropies + one-hot + 0.05 |TV - t| (equations 9 to 12), in two rounds.

    `model` is the explicit FP model; its parameters are put back as they were. Labels are drawn by the task, once.
    """
    recipe.check()
    generator = torch.Generator().manual_seed(job.seed)
    label_seed = int(torch.randint(2**31, (), generator=generator))
    start = gaussian_images(recipe.images, job.input, generator).to(job.device)
    target = variation_target(recipe, start.shape, generator)
    optimizer = ImageOptimizer(start, job.input, recipe, image_lr(model, recipe), generator)
    with PatchEntropy(model, recipe.bandwidth, recipe.points, recipe.drop_token) as entropy, frozen(model):

        def terms(images: Tensor) -> Terms:
            batch = job.synthesize(images, torch.Generator().manual_seed(label_seed))
            output = job.forward(model, batch)
            losses = {"entropy": -entropy.take(), "one_hot": job.loss(output, batch)}
            losses["total_variation"] = (total_variation(images) - target).abs()
            weights = (recipe.entropy_weight, recipe.one_hot_weight, recipe.tv_weight)
            losses["total"] = sum_terms(zip(weights, losses.values(), strict=True))
            return losses

        for number, jitter in enumerate((recipe.jitter_first, recipe.jitter_second)):
            tick = _ticker(job.progress, number * recipe.iterations, 2 * recipe.iterations)
            optimizer.round(recipe.iterations, scaled_jitter(jitter, job.input), terms, tick)
    return Generated(optimizer.images.detach().cpu(), optimizer.curves, {"total_variation_target": target})


def sum_terms(weighted: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Sum of weight times term, a scalar."""
    return torch.stack([weight * term for weight, term in weighted]).sum()


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Within, no parameter of the models asks for a gradient; afterwards those that did, do."""
    learning = [p for model in models for p in model.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _ticker(progress: Progress, done: int, total: int) -> Callable[[int], None]:
    return lambda step: progress("generate images", done + step, total)
