"""What each option of the methods means for a comparison with a figure; the methods' declarations must match it.

`ROW`: another value is another row of the method. `RECIPE`: another value is the same row measured in another way.
`RECIPE_WHEN`: the recipe matters only in the row with these options. Values are the defaults, as a record holds them.
"""

from __future__ import annotations

from typing import Any

from vitq.options import Declared, Effect

ROW: dict[str, dict[str, Any]] = {
    "fp32": {},
    "minmax": {},
    "repq_vit": {
        "log_code_overflow": "zero",
        "rounded_zero_point": False,
        "layernorm": "reparam",
        "softmax": "log_sqrt2",
        "shared_layers": "all",
        "padding": "exact",
    },
    "psaq_vit": {
        "calibration": "generated",
        "residual": "quantized",
        "drop_token": "first",
    },
    "psaq_vit_v2": {
        "generation": "adaptive",
        "difference": True,
        "patch_similarity": True,
        "total_variation": True,
        "student_training": True,
        "drop_token": "first",
    },
    "binary_vit": {
        "grs": True,
        "asm": True,
        "distillation": True,
    },
    "i_vit": {
        "arithmetic": "paper",
        "softmax": "shiftmax",
        "gelu": "shift",
        "layernorm": "integer",
        "rounding": "nearest",
        "softmax_bits": None,
        "paper_operators": [],
    },
}
RECIPE: dict[str, dict[str, Any]] = {
    "fp32": {},
    "minmax": {},
    "repq_vit": {},
    "psaq_vit": {
        "images_from": None,
        "images": 32,
        "iterations": 500,
        "lr": None,
        "bandwidth": 0.01,
        "points": 10,
        "entropy_weight": 1.0,
        "one_hot_weight": 1.0,
        "tv_weight": 0.05,
        "tv_low": 2500.0,
        "tv_high": 3000.0,
        "warmup": 0.2,
        "jitter_first": 15,
        "jitter_second": 30,
        "flip": 0.5,
    },
    "psaq_vit_v2": {
        "cycles": 10,
        "image_steps": 100,
        "training_steps": 50,
        "student_lr": 0.0001,
        "weight_decay": 0.0,
        "difference_weight": 1.0,
        "amp": False,
        "entropy_weight": 1.0,
        "tv_weight": 0.05,
        "tv_low": 2500.0,
        "tv_high": 3000.0,
        "images": 32,
        "lr": None,
        "bandwidth": 0.01,
        "points": 10,
        "warmup": 0.2,
        "jitter_first": 15,
        "jitter_second": 30,
        "flip": 0.5,
        "iterations": 500,
        "one_hot_weight": 1.0,
    },
    "binary_vit": {
        "grs_weight": 1.0,
        "epochs": 300,
        "lr": 0.0005,
        "weight_decay": 0.0,
        "warmup_epochs": 0.0,
        "min_lr": 0.0,
        "clip_norm": None,
        "validate_every": 10,
    },
    "i_vit": {
        "epochs": 30,
        "lr": 1e-06,
        "schedule": "released",
        "weight_decay": 0.0001,
        "drop_path": 0.1,
        "distill": False,
    },
}
RECIPE_WHEN: dict[str, dict[str, Any]] = {
    "psaq_vit": {
        "calibration": "generated",
    },
}


def declared_by_hand() -> dict[str, dict[str, Declared]]:
    """Declarations with these effects, made without the methods."""
    return {
        method: {
            **{name: _made(name, value, "row") for name, value in rows.items()},
            **{
                name: _made(name, value, "recipe", RECIPE_WHEN.get(method, {}))
                for name, value in RECIPE[method].items()
            },
        }
        for method, rows in ROW.items()
    }


def _made(name: str, value: Any, effect: Effect, when: dict[str, Any] | None = None) -> Declared:
    if isinstance(value, list):
        return Declared(name, tuple(value), "made up", effect, "list", effect_when=when or {})
    return Declared(name, value, "made up", effect, "text", effect_when=when or {})
