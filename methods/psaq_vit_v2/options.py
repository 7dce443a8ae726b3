"""Options of PSAQ-ViT V2: its game of images and student, and PSAQ-ViT's options of image generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vitq.errors import MethodInputError
from vitq.methods.psaq_vit.options import DropToken, ImageRecipe
from vitq.options import Effect, declared, option

_ABSTRACT, _SUITE = "abstract", "chosen by this suite"
_FIRST_VERSION = declared(ImageRecipe)


def _as_before(name: str, note: str = "as PSAQ-ViT", effect: Effect = "recipe") -> Any:
    """PSAQ-ViT's option with its default, which no source gives for V2."""
    return option(_FIRST_VERSION[name].default, source=_SUITE, effect=effect, note=note)


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

    images: int = _as_before("images")
    iterations: int = _as_before("iterations", note="only for generation: psaq_vit, of each of its two rounds")
    lr: float | None = _as_before("lr", note="of the images; none is PSAQ-ViT's, 0.25 for Swin and 0.20 otherwise")
    bandwidth: float = _as_before("bandwidth")
    points: int = _as_before("points")
    entropy_weight: float = _as_before("entropy_weight")
    one_hot_weight: float = _as_before("one_hot_weight", note="only for generation: psaq_vit")
    tv_weight: float = _as_before("tv_weight")
    tv_low: float = _as_before("tv_low", note="as PSAQ-ViT, with its scaling to other batches and sizes")
    tv_high: float = _as_before("tv_high", note="as tv_low")
    warmup: float = _as_before("warmup", note="share of each stage G, Adam's state kept between stages")
    jitter_first: int = _as_before("jitter_first", note="as PSAQ-ViT's first round, in the first half of the cycles")
    jitter_second: int = _as_before("jitter_second", note="as PSAQ-ViT's second round, in the other half")
    flip: float = _as_before("flip")
    drop_token: DropToken = _as_before("drop_token", effect="row")  # noqa: RUF009 (a Literal by another name)

    generation: Literal["adaptive", "psaq_vit"] = option(
        "adaptive",
        source=_ABSTRACT,
        effect="row",
        note="psaq_vit makes PSAQ-ViT's images once, with labels: an ablation row",
    )
    cycles: int = option(10, source=_SUITE, effect="recipe")
    image_steps: int = option(
        100, source=_SUITE, effect="recipe", note="updates in one stage G; 10 cycles make PSAQ-ViT's 1000"
    )
    training_steps: int = option(50, source=_SUITE, effect="recipe", note="updates in one stage Q")
    student_lr: float = option(
        1e-4,
        source=_SUITE,
        effect="recipe",
        note="AdamW, half a cosine to 0 in each stage Q, state not kept between stages",
    )
    weight_decay: float = option(0.0, source=_SUITE, effect="recipe")
    student_training: bool = option(True, source=_ABSTRACT, effect="row")
    difference: bool = option(
        True,
        source=_ABSTRACT,
        effect="row",
        note="mean absolute difference of outputs, which the task supplies; that it is this one is chosen by this "
        "suite",
    )
    patch_similarity: bool = option(True, source=_ABSTRACT, effect="row")
    total_variation: bool = option(True, source=_SUITE, effect="row", note="the prior is PSAQ-ViT's")
    difference_weight: float = option(1.0, source=_SUITE, effect="recipe")
    amp: bool = option(
        False,
        source=_SUITE,
        effect="recipe",
        note="no source names mixed precision; bfloat16 or float16 in stage Q on GPUs; no effect on CPUs",
    )

    def check(self) -> None:
        """Raise MethodInputError for values that make no run."""
        super().check()
        if min(self.cycles, self.image_steps, self.training_steps) < 1:
            raise MethodInputError("cycles, image_steps and training_steps must be at least 1")
        if self.generation == "adaptive" and not (self.difference or self.patch_similarity or self.total_variation):
            raise MethodInputError("stage G has no loss: keep difference, patch_similarity or total_variation")
