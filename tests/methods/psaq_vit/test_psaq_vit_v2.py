"""PSAQ-ViT V2: the two stages, the terms that can be left out, and that no label enters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.details import read_details
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.psaq_vit.options import ImageRecipe
from vitq.methods.psaq_vit_v2 import method as psaq_vit_v2
from vitq.methods.psaq_vit_v2.options import Options
from vitq.options import declared, make_options
from vitq.subject import InputSpec, Subject

SMALL = Options(images=4, iterations=4, cycles=2, image_steps=5, training_steps=8)
W4A8 = Bits(4, 8)


def vit() -> nn.Module:
    torch.manual_seed(0)
    model = VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5)
    nn.init.normal_(model.head.weight)
    return model.eval()


def no_labels(*_: Any) -> torch.Tensor:
    raise AssertionError("V2 has no category guidance")


def subject(artifacts: Path, model: nn.Module | None = None, **changes: Any) -> Subject:
    made = Subject(
        model=model or vit(),
        calibration=lambda: iter([]),
        forward=lambda m, batch: m(batch[0]),
        example=no_labels,
        digest=no_labels,
        loss=no_labels,
        distance=lambda a, b: (a - b).abs().mean(),
        distill=no_labels,
        synthesize=lambda x, g: (x, torch.randint(5, (len(x),), generator=g)),
        input=InputSpec((3, 16, 16), (0.5,) * 3, (0.5,) * 3),
        artifacts=artifacts,
    )
    return replace(made, **changes)


def test_training_brings_the_student_nearer_without_labels(tmp_path: Path) -> None:
    done = psaq_vit_v2.quantize(subject(tmp_path), W4A8, replace(SMALL, training_steps=40))
    rows = done.details.cycles
    assert [row.cycle for row in rows] == [0.0, 1.0]
    assert all(row.difference_after < row.difference_before for row in rows)
    assert done.details.curves.difference[0] is None  # the student has no ranges in the first stage G
    assert done.details.curves.difference[-1] > 0
    assert read_details("psaq_vit_v2", done.details.model_dump(mode="json")) == done.details


def test_stage_g_with_the_difference_alone_drives_the_two_apart(tmp_path: Path) -> None:
    alone = replace(SMALL, patch_similarity=False, total_variation=False, student_training=False, image_steps=30)
    ends = []
    for weight in (1.0, -1.0):
        curve = psaq_vit_v2.quantize(subject(tmp_path), W4A8, replace(alone, difference_weight=weight)).details.curves
        ends.append(sum(curve.difference[-5:]))
    assert ends[0] > ends[1]


@pytest.mark.parametrize("term", ["difference", "patch_similarity", "total_variation"])
def test_every_term_can_be_left_out_and_matters(term: str, tmp_path: Path) -> None:
    images = []
    for options in (SMALL, replace(SMALL, **{term: False})):
        done = psaq_vit_v2.quantize(subject(tmp_path), W4A8, options)
        images.append(load_file(done.files["images"])["images"].clone())
        assert getattr(done.details.terms, term) == getattr(options, term)
    assert not torch.equal(*images)


def test_the_teacher_and_an_untrained_student_keep_their_weights(tmp_path: Path) -> None:
    original, model = vit(), vit()
    student = psaq_vit_v2.quantize(subject(tmp_path, model), W4A8, replace(SMALL, student_training=False)).model
    for other in (model, student):
        named = dict(other.named_parameters())
        assert all(torch.equal(p, named[name]) for name, p in original.named_parameters())
    assert not student.training


def test_first_version_images_take_labels_and_need_no_training(tmp_path: Path) -> None:
    row = replace(SMALL, generation="psaq_vit", student_training=False)
    done = psaq_vit_v2.quantize(
        subject(tmp_path, loss=lambda out, batch: nn.functional.cross_entropy(out, batch[1])), W4A8, row
    )
    assert len(done.details.cycles) == 1
    assert done.details.curves.one_hot
    assert "difference_after" not in done.details.model_dump(mode="json")["cycles"][0]


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    outputs = [
        psaq_vit_v2.quantize(subject(tmp_path, seed=s), W4A8, SMALL).model(torch.ones(1, 3, 16, 16)) for s in (1, 1, 2)
    ]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_probabilities_and_gelu_stay_in_floating_point() -> None:
    model = psaq_vit_v2.prepare(vit(), Bits(4, 8), Options())
    quantized = {name for name, _ in model.named_modules() if name.endswith("output_quantizer")}
    assert not any("mlp.act" in name or "softmax" in name for name in quantized)
    assert model.get_submodule("blocks.0.mlp.fc2").operand_bits() == (32, 4)
    assert model.get_submodule("blocks.0.mlp.fc1").operand_bits() == (8, 4)
    assert model.get_submodule("blocks.0.attn.av").operand_bits() == (32, 8)


def test_the_card_lists_every_option_with_its_default_and_owns_what_it_chose() -> None:
    card = all_cards()["psaq_vit_v2"]
    known, before = declared(Options), declared(ImageRecipe)
    assert {name: each.default for name, each in known.items() if name not in before} == {
        "generation": "adaptive", "cycles": 10, "image_steps": 100, "training_steps": 50, "student_lr": 1e-4,
        "weight_decay": 0.0, "student_training": True, "difference": True, "patch_similarity": True,
        "total_variation": True, "difference_weight": 1.0, "amp": False,
    }  # fmt: skip
    assert {name for name, each in known.items() if each.effect == "row"} == {
        "generation", "difference", "patch_similarity", "total_variation", "student_training", "drop_token",
    }  # fmt: skip
    assert card.fidelity == "reconstruction"
    assert {each.source for each in known.values()} == {"abstract", "chosen by this suite"}
    assert all(known[name].default == each.default for name, each in before.items())
    assert not any(each.effect_when for each in known.values())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": 0}, "images is 0"),
        ({"cycles": 0}, "cycles"),
        ({"difference": False, "patch_similarity": False, "total_variation": False}, "stage G has no loss"),
    ],
)
def test_bad_options_are_answered_with_one_line(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(MethodInputError, match=says) as caught:
        psaq_vit_v2.quantize(subject(tmp_path), W4A8, replace(SMALL, **changes))
    assert "\n" not in str(caught.value)


def test_a_model_without_attention_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"Sequential has no block .* roles attention"):
        psaq_vit_v2.quantize(subject(tmp_path, nn.Sequential(nn.Flatten(), nn.Linear(768, 5))), W4A8, SMALL)
    assert psaq_vit_v2.unsupported(Bits.parse("FP32"), Options())


def test_a_word_that_is_no_choice_is_refused_before_anything_runs() -> None:
    with pytest.raises(MethodInputError, match="generation is 'gan'"):
        make_options(Options, {"generation": "gan"})


@pytest.mark.parametrize("amp", [False, True])
def test_mixed_precision_is_asked_for_and_told(amp: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes: list[Any] = []
    trained = psaq_vit_v2.train

    def watched(student: nn.Module, recipe: Any, *rest: Any, **more: Any) -> Any:
        recipes.append(recipe)
        return trained(student, recipe, *rest, **more)

    monkeypatch.setattr(psaq_vit_v2, "train", watched)
    options = replace(SMALL, amp=True) if amp else SMALL
    done = psaq_vit_v2.quantize(subject(tmp_path), W4A8, options)
    assert done.details.amp is amp
    assert [recipe.amp for recipe in recipes] == [amp] * SMALL.cycles
    assert done.details.without_effect == ["iterations"]


def test_what_an_untrained_student_ignores_is_told(tmp_path: Path) -> None:
    row = replace(SMALL, generation="psaq_vit", student_training=False, iterations=4)
    given = subject(tmp_path, loss=lambda out, batch: nn.functional.cross_entropy(out, batch[1]))
    assert psaq_vit_v2.quantize(given, W4A8, row).details.without_effect == ["cycles", "image_steps", "training_steps"]
