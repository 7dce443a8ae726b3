"""PSAQ-ViT V2: adaptive teacher-student data-free quantization (arXiv 2209.05687), a reconstruction.

No code was released. The abstract's scheme: images and the quantized student evolve in turn under the FP teacher. Stage
G updates the images to make the two disagree, with patch-similarity and total-variation priors and no labels; stage Q
trains the student with straight-through gradients to agree again. The quantizer is PSAQ-ViT's, with the GELU's output
in floating point too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.psaq_vit.image_generation import (
    Generated,
    ImageOptimizer,
    ImageRecipe,
    Terms,
    frozen,
    gaussian_images,
    generate,
    image_lr,
    scaled_jitter,
    sum_terms,
    total_variation,
    variation_target,
)
from vitq.methods.psaq_vit.method import check_choices, describe, image_batches, keep_images
from vitq.methods.psaq_vit.nodes import calibrate, quantize_nodes, require_attention
from vitq.methods.psaq_vit.patch_similarity import PatchEntropy
from vitq.methods.toolkit import devices
from vitq.methods.toolkit.layers import set_mode
from vitq.methods.training.trainer import Recipe, train
from vitq.options import without_effect
from vitq.subject import Batch, Output, Subject


@dataclass(frozen=True)
class Options(ImageRecipe):
    """Options of the reconstruction: those of image generation, and

    Attributes:
        generation: `adaptive`, or `psaq_vit` for PSAQ-ViT's images, made once, with labels (`iterations` a round).
        cycles: turns of stage G and stage Q.
        image_steps: updates of the images in one stage G.
        training_steps: updates of the student in one stage Q.
        student_lr, weight_decay: of the student's AdamW, half a cosine to 0 in each stage Q.
        student_training: whether stage Q trains, or only takes ranges from the images.
        difference, patch_similarity, total_variation: whether the term is in stage G's loss.
        difference_weight: of -D.
        amp: mixed precision in the student's training, on GPUs; what is evaluated computes in float32 in any case.
    """

    generation: Literal["adaptive", "psaq_vit"] = "adaptive"
    cycles: int = 10
    image_steps: int = 100
    training_steps: int = 50
    student_lr: float = 1e-4
    weight_decay: float = 0.0
    student_training: bool = True
    difference: bool = True
    patch_similarity: bool = True
    total_variation: bool = True
    difference_weight: float = 1.0
    amp: bool = False

    def check(self) -> None:
        """Raise MethodInputError for values that make no run."""
        super().check()
        if min(self.cycles, self.image_steps, self.training_steps) < 1:
            raise MethodInputError("cycles, image_steps and training_steps must be at least 1")
        if self.generation == "adaptive" and not (self.difference or self.patch_similarity or self.total_variation):
            raise MethodInputError("stage G has no loss: keep difference, patch_similarity or total_variation")


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Widths outside the card's."""
    return all_cards()["psaq_vit_v2"].supports.refuses(bits)


def prepare(model: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """PSAQ-ViT's nodes without the GELU's output; UnsupportedError for a model without attention."""
    return quantize_nodes(model, bits, ("mlp.act",))


def restore(model: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The finished model's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    return set_mode(prepare(model, bits, options), "on")


def quantize(job: Subject, options: Options) -> Quantized:
    """Images and student in turn (`adaptive`), or PSAQ-ViT's images once and then the student on them."""
    check_choices(options)
    options.check()
    teacher = require_attention(job.model).requires_grad_(False)
    student = prepare(copy.deepcopy(teacher), job.bits, options).requires_grad_(True)
    game = _Game(job, options, teacher, student)
    source = game.play() if options.generation == "adaptive" else game.on_fixed_images()
    files, count = keep_images(job, teacher, source)
    details = {
        "generation": options.generation,
        "terms": {t: getattr(options, t) for t in ("difference", "patch_similarity", "total_variation")},
        "student_training": options.student_training,
        "images": count,
        "amp": options.amp,
        "without_effect": without_effect(options, _unread(options)),
        "cycles": game.rows,
        "seconds": game.seconds,
        "residual_ranges": game.residuals,
    }
    return Quantized(student.requires_grad_(False), details | describe(source, options), files)


def _unread(options: Options) -> set[str]:
    """Options that this run reads nothing of."""
    unread = set() if options.student_training else {"training_steps", "student_lr", "weight_decay", "amp"}
    if options.generation == "adaptive":
        terms = {
            "difference": {"difference_weight"},
            "patch_similarity": {"entropy_weight", "bandwidth", "points", "drop_token"},
            "total_variation": {"tv_weight", "tv_low", "tv_high"},
        }
        unread |= {"iterations", "one_hot_weight"}
        return unread.union(*(names for term, names in terms.items() if not getattr(options, term)))
    unread |= {"image_steps", "difference", "patch_similarity", "total_variation", "difference_weight"}
    return unread if options.student_training else unread | {"cycles"}


class _Game:
    """Teacher (FP, frozen), student (quantized) and images, and what happened to them."""

    def __init__(self, job: Subject, options: Options, teacher: nn.Module, student: nn.Module) -> None:
        self.job, self.options, self.teacher, self.student = job, options, teacher, student
        self.rows: list[dict[str, float]] = []
        self.seconds = {"images": 0.0, "train": 0.0}
        self.residuals: dict[str, tuple[float, float]] = {}

    def play(self) -> Generated:
        """Alternate the stages; the first stage G has no difference term, for the student has no ranges yet."""
        job, options = self.job, self.options
        generator = torch.Generator().manual_seed(job.seed)
        start = gaussian_images(options.images, job.input, generator).to(job.device)
        target = variation_target(options, start.shape, generator)
        lr = image_lr(self.teacher, options)
        images = ImageOptimizer(start, job.input, options, lr, generator)
        for cycle in range(options.cycles):
            jitter = options.jitter_first if 2 * cycle < options.cycles else options.jitter_second
            self._stage_g(images, cycle, scaled_jitter(jitter, job.input), target)
            self._stage_q(images.images.detach(), cycle)
        return Generated(images.images.detach().cpu(), images.curves, {"total_variation_target": target})

    def on_fixed_images(self) -> Generated:
        """PSAQ-ViT's images, then all of stage Q's steps on them."""
        started = devices.clock(self.job.device)
        source = generate(self.job, self.teacher, self.options)
        self.seconds["images"] = devices.clock(self.job.device) - started
        for cycle in range(self.options.cycles if self.options.student_training else 1):
            self._stage_q(source.images.to(self.job.device), cycle)
        return source

    def _stage_g(self, images: ImageOptimizer, cycle: int, jitter: int, target: float) -> None:
        """Update the images, both networks frozen: minimize -D + L_PSE + lambda * L_TV."""
        started, options = devices.clock(self.job.device), self.options
        total = options.cycles * options.image_steps

        def tick(step: int) -> None:
            self.job.progress("generate images", cycle * options.image_steps + step, total)

        catch = PatchEntropy(self.teacher, options.bandwidth, options.points, options.drop_token)
        with catch as entropy, frozen(self.student):
            images.round(
                options.image_steps, jitter, lambda x: self._terms(x, entropy, target, compete=cycle > 0), tick
            )
        self.seconds["images"] += devices.clock(self.job.device) - started

    def _terms(self, images: Tensor, entropy: PatchEntropy, target: float, compete: bool) -> Terms:
        batch = self._batch(images)
        taught = self.job.forward(self.teacher, batch)
        losses = {"entropy": -entropy.take(), "total_variation": (total_variation(images) - target).abs()}
        options = self.options
        on = {"entropy": options.patch_similarity * options.entropy_weight}
        on["total_variation"] = options.total_variation * options.tv_weight
        if compete and options.difference:
            losses["difference"] = self.job.distance(self.job.forward(self.student, batch), taught)
            on["difference"] = -options.difference_weight
        losses["total"] = sum_terms((on[name], term) for name, term in losses.items())
        return losses

    def _stage_q(self, images: Tensor, cycle: int) -> None:
        """Take the student's ranges from the images, then train it on them to minimize D."""
        started, options, job = devices.clock(self.job.device), self.options, self.job
        self.residuals = calibrate(self.student, job.forward, image_batches(job, images))
        batch = self._batch(images)
        with torch.no_grad():
            taught = job.forward(self.teacher, batch)
        row = {"cycle": float(cycle), "difference_before": self._difference(batch, taught)}
        if options.student_training:

            def batches(_epoch: int) -> Iterator[Batch]:
                return iter([batch] * options.training_steps)

            def loss(student: nn.Module, batch: Batch) -> Tensor:
                student.eval()  # no dropped path or unit: the student is to agree with the teacher as it evaluates
                return job.distance(job.forward(student, batch), taught)

            recipe = Recipe(epochs=1, lr=options.student_lr, weight_decay=options.weight_decay, amp=options.amp)
            train(self.student, recipe, batches, loss, seed=job.seed + cycle, progress=job.progress)
            row["difference_after"] = self._difference(batch, taught)
        self.rows.append(row)
        self.seconds["train"] += devices.clock(self.job.device) - started

    def _difference(self, batch: Batch, taught: Output) -> float:
        with torch.no_grad():
            return float(self.job.distance(self.job.forward(self.student, batch), taught))

    def _batch(self, images: Tensor) -> Batch:
        """The task's batch; its labels are not used."""
        return self.job.synthesize(images, torch.Generator().manual_seed(self.job.seed))
