"""Options of BinaryViT."""

from __future__ import annotations

from dataclasses import dataclass

from vitq.options import option

_ABLATION = "ablation: baseline, +GRS, +ASM, +both"


@dataclass(frozen=True)
class Options:
    """Defaults are the full recipe; the card's notes tell the short recipes of the suites.

    `grs` and `asm` off give the paper's baseline.
    """

    grs: bool = option(True, source="abstract", effect="row", note=_ABLATION)
    asm: bool = option(True, source="abstract", effect="row", note=_ABLATION)
    grs_weight: float = option(
        1.0,
        source="no source; this suite, the natural unit",
        effect="recipe",
        note="pull toward +-row scale at the end of training, in units of the row's mean absolute gradient, growing "
        "linearly from 0",
    )
    distillation: bool = option(
        True,
        source="ReActNet (arXiv 2003.03488), distributional loss",
        effect="row",
        note="cross entropy with the FP model's softmax; false trains on labels",
    )
    epochs: int = option(
        300, source="BiViT (arXiv 2211.07091) and others", effect="recipe", note="0 binarizes without training"
    )
    lr: float = option(
        5e-4,
        source="BiViT and others",
        effect="recipe",
        note="AdamW with betas 0.9 and 0.999; for the batch that the task gives times the number of processes",
    )
    weight_decay: float = option(0.0, source="BiViT and others", effect="recipe")
    warmup_epochs: float = option(0.0, source="no source names a warm-up", effect="recipe")
    min_lr: float = option(0.0, source="plain cosine", effect="recipe")
    clip_norm: float | None = option(None, source="no source names clipping", effect="recipe")
    validate_every: int = option(
        10,
        source="this suite",
        effect="recipe",
        note="epochs between two points of the validation curve, which ends with the last epoch; changes no result",
    )
