"""PSAQ-ViT V2: adaptive teacher-student data-free quantization (arXiv 2209.05687), a reconstruction.

No code was released. The abstract's scheme: images and the quantized student evolve in turn under the FP teacher. Stage
G updates the images to make the two disagree, with patch-similarity and total-variation priors and no labels; stage Q
trains the student with straight-through gradients to agree again. The quantizer is PSAQ-ViT's, with the GELU's output
in floating point too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vitq.details.psaq_vit_v2 import Cycle, Details, Seconds, Terms
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.psaq_vit.image_generation import (
    Generated,
    ImageOptimizer,
    LossTerms,
    frozen,
    generate,
    scaled_jitter,
    start_images,
    sum_terms,
    told,
    total_variation,
)
from vitq.methods.psaq_vit.method import describe, image_batches, keep_images
from vitq.methods.psaq_vit.nodes import Calibration, calibrate, quantize_nodes
from vitq.methods.psaq_vit.patch_similarity import PatchEntropy
from vitq.methods.psaq_vit_v2.options import Options
from vitq.methods.toolkit import devices
from vitq.methods.toolkit.modules import set_mode
from vitq.methods.training.trainer import Recipe, train
from vitq.options import without_effect
from vitq.subject import Batch, Output, Subject, part_of, put_part


def unsupported(bits: Bits, options: Options) -> str | None:  # noqa: ARG001
    """Widths outside the card's."""
    return all_cards()["psaq_vit_v2"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """PSAQ-ViT's nodes without the GELU's output; UnsupportedError for a part without attention."""
    return quantize_nodes(part, bits, ["activation"])


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:  # noqa: ARG001
    """The finished part's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    return set_mode(quantize_nodes(part, bits, ["activation"], facts.get("unreached", ())), "on")


def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """Images and student in turn (`adaptive`), or PSAQ-ViT's images once and then the student on them."""
    options.check()
    with frozen(subject.model):
        game = _Game(subject, bits, options)
        source = game.play() if options.generation == "adaptive" else game.on_fixed_images()
    files = keep_images(subject, source)
    details = Details(
        **describe(source, options),
        without_effect=without_effect(options, _unread(options)),
        residual_ranges=game.seen.residual_ranges,
        generation=options.generation,
        terms=Terms(**{term: getattr(options, term) for term in Terms.model_fields}),
        student_training=options.student_training,
        amp=options.amp,
        cycles=game.cycles,
        seconds=Seconds(**game.seconds),
    )
    model = subject.put(part_of(game.student, subject.scope).requires_grad_(False))
    return Quantized(model, details, files, facts=game.seen.facts)


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
    """Teacher (FP, frozen), student (quantized) and images, and what happened to them.

    The teacher is the subject's model; the student a copy of it, whose part alone is quantized and trained.
    """

    def __init__(self, subject: Subject, bits: Bits, options: Options) -> None:
        self.subject, self.options, self.teacher = subject, options, subject.model
        student = copy.deepcopy(subject.model)
        part = prepare(part_of(student, subject.scope), bits, options).requires_grad_(True)
        self.student = put_part(student, subject.scope, part)
        self.cycles: list[Cycle] = []
        self.seconds = {"images": 0.0, "train": 0.0}
        self.seen = Calibration({}, [])

    def play(self) -> Generated:
        """Alternate the stages; the first stage G has no difference term, for the student has no ranges yet."""
        subject, options = self.subject, self.options
        images, target = start_images(subject, options, torch.Generator().manual_seed(subject.seed))
        for cycle in range(options.cycles):
            jitter = options.jitter_first if 2 * cycle < options.cycles else options.jitter_second
            self._stage_g(images, cycle, scaled_jitter(jitter, subject.input), target)
            self._stage_q(images.images.detach(), cycle)
        return Generated(images.images.detach().cpu(), images.curves, target)

    def on_fixed_images(self) -> Generated:
        """PSAQ-ViT's images, then all of stage Q's steps on them."""
        with self._timed("images"):
            source = generate(self.subject, self.options)
        for cycle in range(self.options.cycles if self.options.student_training else 1):
            self._stage_q(source.images.to(self.subject.device), cycle)
        return source

    def _stage_g(self, images: ImageOptimizer, cycle: int, jitter: int, target: float) -> None:
        """Update the images, both networks frozen: minimize -D + L_PSE + lambda * L_TV."""
        options = self.options
        tick = told(self.subject.progress, cycle * options.image_steps, options.cycles * options.image_steps)
        entropies = PatchEntropy(self.subject.part, options.bandwidth, options.points, options.drop_token)
        with self._timed("images"), entropies as entropy, frozen(self.student):
            images.round(
                options.image_steps, jitter, lambda x: self._terms(x, entropy, target, compete=cycle > 0), tick
            )

    def _terms(self, images: Tensor, entropy: PatchEntropy, target: float, compete: bool) -> LossTerms:
        subject, options, batch = self.subject, self.options, self._batch(images)
        taught = subject.forward(self.teacher, batch)
        losses = {"entropy": -entropy.take(), "total_variation": (total_variation(images) - target).abs()}
        on = {"entropy": options.patch_similarity * options.entropy_weight}
        on["total_variation"] = options.total_variation * options.tv_weight
        if compete and options.difference:
            losses["difference"] = subject.distance(subject.forward(self.student, batch), taught)
            on["difference"] = -options.difference_weight
        losses["total"] = sum_terms((on[name], term) for name, term in losses.items())
        return losses

    def _stage_q(self, images: Tensor, cycle: int) -> None:
        """Take the student's ranges from the images, then train it on them to minimize D."""
        subject, batch = self.subject, self._batch(images)
        with self._timed("train"):
            student = part_of(self.student, subject.scope)
            batches = image_batches(subject, images)
            self.seen = calibrate(student, lambda each: subject.forward(self.student, each), batches)
            with torch.no_grad():
                taught = subject.forward(self.teacher, batch)
            before, after = self._difference(batch, taught), None
            if self.options.student_training:
                self._train(batch, taught, cycle)
                after = self._difference(batch, taught)
        self.cycles.append(Cycle(cycle=cycle, difference_before=before, difference_after=after))

    def _train(self, batch: Batch, taught: Output, cycle: int) -> None:
        """Stage Q's steps on one batch, to agree with what the teacher put out."""
        subject, options = self.subject, self.options

        def batches(_epoch: int) -> Iterator[Batch]:
            return iter([batch] * options.training_steps)

        def loss(student: nn.Module, batch: Batch) -> Tensor:
            student.eval()  # no dropped path or unit: the student is to agree with the teacher as it evaluates
            return subject.distance(subject.forward(student, batch), taught)

        recipe = Recipe(epochs=1, lr=options.student_lr, weight_decay=options.weight_decay, amp=options.amp)
        train(self.student, recipe, batches, loss, seed=subject.seed + cycle, progress=subject.progress)

    def _difference(self, batch: Batch, taught: Output) -> float:
        with torch.no_grad():
            return float(self.subject.distance(self.subject.forward(self.student, batch), taught))

    def _batch(self, images: Tensor) -> Batch:
        """The task's batch; its labels are not used."""
        return self.subject.synthesize(images, torch.Generator().manual_seed(self.subject.seed))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Add the wall time within to a stage's."""
        started = devices.clock(self.subject.device)
        yield
        self.seconds[stage] += devices.clock(self.subject.device) - started
