"""A model: vitq's ViT of digits, made for scans of less contrast."""

from __future__ import annotations

from vitq.tasks.names import ModelEntry
from vitq_plugin.faint_digits import CONTRAST

FAINT_DIGITS_VIT = ModelEntry.model_validate(
    {
        "name": "faint_digits_vit",
        "preprocessing": {
            "size": [3, 24, 24], "mean": [0.5] * 3, "std": [0.5 * CONTRAST] * 3, "crop_pct": 1.0,
            "interpolation": "bilinear",
        },
        "build": {
            "class": "VisionTransformer",
            "args": {"img_size": 24, "patch_size": 4, "num_classes": 10, "embed_dim": 48, "depth": 4, "num_heads": 3},
        },
        "hub": False,
        "note": "its weights are those of vitq's digits_vit: name that file in the site file",
    }
)  # fmt: skip
