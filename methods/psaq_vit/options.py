"""Options of PSAQ-ViT: how images are made from a model alone, and what sets the ranges."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from vitq.errors import MethodInputError
from vitq.options import option

DropToken = Literal["first", "class"]
"""`first`: token 0 of every attention, as in the released code, Swin's windows included; `class`: class tokens only."""

_PAPER, _CODE, _SUITE = "paper", "released code", "this suite"


def _recipe(default: Any, source: str, note: str = "") -> Any:
    """An option of the recipe of generated images."""
    return option(default, source=source, effect="recipe", note=note, effect_when={"calibration": "generated"})


@dataclass(frozen=True)
class ImageRecipe:
    """How images are optimized.

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

    images: int = _recipe(32, _PAPER)
    iterations: int = _recipe(
        500,
        _CODE,
        note="of each of the two rounds; small suites shorten it and the record says so under details.recipe",
    )
    lr: float | None = _recipe(None, _PAPER, note="none is 0.25 for Swin and 0.20 for ViT and DeiT")
    bandwidth: float = _recipe(0.01, _CODE)
    points: int = _recipe(10, _CODE)
    entropy_weight: float = _recipe(1.0, _PAPER)
    one_hot_weight: float = _recipe(1.0, _PAPER)
    tv_weight: float = _recipe(0.05, _PAPER)
    tv_low: float = _recipe(
        2500.0, _CODE, note="for 32 images of 3x224x224; otherwise times sqrt(B*C*H*W / (32*3*224*224))"
    )
    tv_high: float = _recipe(3000.0, _CODE, note="as tv_low")
    warmup: float = _recipe(0.2, _CODE, note="share of a round, 100 of 500 iterations")
    jitter_first: int = _recipe(
        15, _CODE, note="pixels at a side of 224; otherwise the same share of the side, rounded"
    )
    jitter_second: int = _recipe(30, _CODE, note="as jitter_first")
    flip: float = _recipe(0.5, _CODE)
    drop_token: DropToken = option(
        "first",
        source=_CODE,
        effect="row",
        note="the released code leaves out token 0 of Swin's windows too, which have no class token; class leaves it "
        "out only where there is one",
    )

    def generation_fields(self) -> set[str]:
        """Options that only generated images depend on: every one of these but their number."""
        return {f.name for f in fields(ImageRecipe)} - {"images"}

    def check_images(self) -> None:
        """Raise MethodInputError where there is no image to calibrate on."""
        if self.images < 1:
            raise MethodInputError(f"images is {self.images}: give at least 1 image to calibrate on")

    def check(self) -> None:
        """Raise MethodInputError for values that give no images."""
        self.check_images()
        if self.iterations < 1:
            raise MethodInputError(
                f"iterations is {self.iterations}: give at least 1, or calibration: gaussian for images that are noise"
            )
        if self.bandwidth <= 0 or self.points < 2 or (self.lr is not None and self.lr <= 0):
            raise MethodInputError("bandwidth and lr must be positive and points at least 2")
        if not 0 <= self.warmup < 1 or not 0 <= self.flip <= 1 or self.tv_low > self.tv_high:
            raise MethodInputError("want 0 <= warmup < 1, 0 <= flip <= 1 and tv_low <= tv_high")


@dataclass(frozen=True)
class Options(ImageRecipe):
    """PSAQ-ViT's options: those of image generation, and

    Attributes:
        calibration: what sets the ranges: generated images, Gaussian noise N(0, 1), or the real calibration set.
        residual: whether the residual sums are quantized (as in the paper) or stay in floating point.
        images_from: `images.safetensors` of an earlier run, to calibrate on instead of generating anew.
    """

    calibration: Literal["generated", "gaussian", "real"] = option(
        "generated", source="paper, which compares the three sources", effect="row"
    )
    residual: Literal["quantized", "fp"] = option(
        "quantized",
        source=_CODE,
        effect="row",
        note="fp leaves both residual sums of every block in floating point; a diagnosis, not the paper's method",
    )
    images_from: str | None = option(
        None,
        source=_SUITE,
        effect="recipe",
        note="images.safetensors of an earlier run instead of generating anew",
        file=True,
        effect_when={"calibration": "generated"},
    )
