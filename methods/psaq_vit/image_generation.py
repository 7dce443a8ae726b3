"""Images from a model alone: Adam over a batch of images in normalized space, and the priors that shape them.

PSAQ-ViT (arXiv 2203.02250) optimizes images for patch diversity, class evidence and smoothness; V2
(arXiv 2209.05687) for the difference of two models. Both share the steps here: jitter, flip, descend, clamp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.architectures.roles import roles_of
from vitq.methods.psaq_vit.options import ImageRecipe
from vitq.methods.psaq_vit.patch_similarity import PatchEntropy
from vitq.subject import InputSpec, Progress, Subject

Curves = dict[str, list[float]]
"""Loss terms by name, a value an iteration."""
LossTerms = dict[str, Tensor]
"""Loss terms by name; the optimized loss is `total`."""

_PAPER_ELEMENTS = 32 * 3 * 224 * 224
_PAPER_SIDE = 224


@dataclass
class Generated:
    """Images [B, C, H, W] in normalized space on the CPU; of generated ones loss curves and total-variation target."""

    images: Tensor
    curves: Curves = field(default_factory=dict)
    target: float | None = None


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
        self, iterations: int, jitter: int, terms: Callable[[Tensor], LossTerms], tick: Callable[[int], None]
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


def image_lr(part: nn.Module, recipe: ImageRecipe) -> float:
    """The recipe's learning rate, or the paper's for the kind of attention."""
    return recipe.lr if recipe.lr is not None else (0.25 if roles_of(part).windowed else 0.20)


def scaled_jitter(pixels: int, spec: InputSpec) -> int:
    """A roll given for a side of 224 pixels, as the same share of this input's side."""
    return round(pixels * spec.size[-1] / _PAPER_SIDE)


def variation_target(recipe: ImageRecipe, shape: torch.Size, generator: torch.Generator) -> float:
    """Uniform in [tv_low, tv_high], drawn once, scaled to the batch's shape."""
    drawn = recipe.tv_low + (recipe.tv_high - recipe.tv_low) * float(torch.rand((), generator=generator))
    return drawn * variation_scale(shape)


def generate(subject: Subject, recipe: ImageRecipe) -> Generated:
    """PSAQ-ViT's images: L = -sum of entropies + one-hot + 0.05 |TV - t| (equations 9 to 12), in two rounds.

    The subject's model is in full precision; its part is made explicit, and which parameters learn is put back as it
    was. Labels are drawn by the task, once. A task that draws none, for its labels are no class an image (a detector's,
    a segmenter's), has no one-hot term: the paper is of classification, and this is the suite's way for the others.
    """
    recipe.check()
    generator = torch.Generator().manual_seed(subject.seed)
    label_seed = int(torch.randint(2**31, (), generator=generator))
    optimizer, target = start_images(subject, recipe, generator)
    weights = {
        "entropy": recipe.entropy_weight,
        "one_hot": recipe.one_hot_weight,
        "total_variation": recipe.tv_weight,
    }
    entropies = PatchEntropy(subject.part, recipe.bandwidth, recipe.points, recipe.drop_token)
    with entropies as entropy, frozen(subject.model):

        def terms(images: Tensor) -> LossTerms:
            batch = subject.synthesize(images, torch.Generator().manual_seed(label_seed))
            output = subject.forward(subject.model, batch)
            losses = {"entropy": -entropy.take()}
            if subject.draws_labels:
                losses["one_hot"] = subject.loss(output, batch)
            losses["total_variation"] = (total_variation(images) - target).abs()
            losses["total"] = sum_terms((weights[name], term) for name, term in losses.items())
            return losses

        for number, jitter in enumerate((recipe.jitter_first, recipe.jitter_second)):
            tick = told(subject.progress, number * recipe.iterations, 2 * recipe.iterations)
            optimizer.round(recipe.iterations, scaled_jitter(jitter, subject.input), terms, tick)
    return Generated(optimizer.images.detach().cpu(), optimizer.curves, target)


def start_images(subject: Subject, recipe: ImageRecipe, generator: torch.Generator) -> tuple[ImageOptimizer, float]:
    """The optimizer of images that are still noise, and the target of their total variation, both drawn here."""
    start = gaussian_images(recipe.images, subject.input, generator).to(subject.device)
    target = variation_target(recipe, start.shape, generator)
    return ImageOptimizer(start, subject.input, recipe, image_lr(subject.part, recipe), generator), target


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


def told(progress: Progress, done: int, total: int) -> Callable[[int], None]:
    """What tells of a step's end, `done` steps having been made before."""
    return lambda step: progress("generate images", done + step, total)
