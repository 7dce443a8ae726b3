"""What PSAQ-ViT V2 says of its work: the turns of images and student, and what PSAQ-ViT says of its images."""

from __future__ import annotations

from typing import Literal

from vitq.details.psaq_vit import Images, Sparse


class Terms(Sparse):
    """Which terms were in the loss of the images."""

    difference: bool
    patch_similarity: bool
    total_variation: bool


class Cycle(Sparse):
    """A turn, from 0: the outputs' difference of teacher and student before training, and after it if there was any."""

    cycle: float
    difference_before: float
    difference_after: float | None = None


class Seconds(Sparse):
    """Wall time of all stages G and of all stages Q."""

    images: float
    train: float


class Details(Images):
    """Where images came from, whether the student was trained (in mixed precision: `amp`), and every turn."""

    generation: Literal["adaptive", "psaq_vit"]
    terms: Terms
    student_training: bool
    amp: bool
    cycles: list[Cycle]
    seconds: Seconds
