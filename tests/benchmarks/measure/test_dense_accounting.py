"""Operations of detectors and segmenters: against what the Swin authors print, mmengine's analysis, and by hand."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from vitq import mm
from vitq.benchmarks.measure.accounting import Account, account
from vitq.benchmarks.measure.macs import count_macs, explicit_copy
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.registry import METHODS, load
from vitq.methods.served import meta_copy
from vitq.subject import WHOLE, part_of, put_part
from vitq.tasks.dense import Dense, scenes_of
from vitq.tasks.detection import TASK as DETECTION
from vitq.tasks.mm_models import build
from vitq.tasks.names import Configured
from vitq.tasks.segmentation import TASK as SEGMENTATION

pytestmark = pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))

UPERNET = "mmseg::swin/swin-{}-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py"
CONFIGS: dict[str, tuple[Dense, str]] = {
    "mask_rcnn_swin_tiny": (DETECTION, "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py"),
    "mask_rcnn_swin_small": (DETECTION, "mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py"),
    "cascade_mask_rcnn_swin_tiny": (DETECTION, "vitq::cascade_mask_rcnn_swin_tiny.py"),
    "cascade_mask_rcnn_swin_small": (DETECTION, "vitq::cascade_mask_rcnn_swin_small.py"),
    "cascade_mask_rcnn_swin_base": (DETECTION, "vitq::cascade_mask_rcnn_swin_base.py"),
    "upernet_swin_tiny": (SEGMENTATION, UPERNET.format("tiny")),
    "upernet_swin_small": (SEGMENTATION, UPERNET.format("small")),
    "upernet_deit_small": (SEGMENTATION, "mmseg::vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512.py"),
    "digits_mask_rcnn": (DETECTION, "vitq::digits_mask_rcnn.py"),
    "digits_upernet_swin": (SEGMENTATION, "vitq::digits_upernet_swin.py"),
    "digits_upernet_vit": (SEGMENTATION, "vitq::digits_upernet_vit.py"),
}


@functools.cache
def made(name: str) -> nn.Module:
    task, config = CONFIGS[name]
    with torch.device("meta"):
        return build(Configured(config=config), task.name)


@functools.cache
def counted(name: str, height: int, width: int) -> Mapping[str, int]:
    task: Any = CONFIGS[name][0]
    with torch.device("meta"):
        batch = scenes_of(torch.empty(1, 3, height, width))
        return count_macs(explicit_copy(made(name)), batch, task.forward)


def total(macs: Mapping[str, int], *starts: str) -> int:
    return sum(count for path, count in macs.items() if path.startswith(starts or ("",)))


@pytest.mark.parametrize(
    ("name", "size", "params_m", "printed_g", "apart"),
    [
        # the tables of the Swin authors' detection and segmentation repositories, 1280x800 and 2048x512 pixels
        ("mask_rcnn_swin_tiny", (800, 1280), 48, 267, 0.5),
        ("mask_rcnn_swin_small", (800, 1280), 69, 359, 0.5),
        ("cascade_mask_rcnn_swin_tiny", (800, 1280), 86, 745, 0.5),
        ("cascade_mask_rcnn_swin_small", (800, 1280), 107, 838, 1.5),
        ("cascade_mask_rcnn_swin_base", (800, 1280), 145, 982, 1.0),
        ("upernet_swin_tiny", (512, 2048), 60, 945, 1.0),
        ("upernet_swin_small", (512, 2048), 81, 1038, 1.0),
    ],
)
def test_what_the_authors_print(
    name: str, size: tuple[int, int], params_m: int, printed_g: float, apart: float
) -> None:
    """Printed figures count some normalizations as well, hence up to 1 G of a segmenter's wide maps; see below.

    Printed parameters hold the auxiliary head of a segmenter, which no prediction passes.
    """
    beside = 923_798 if name.startswith("upernet") else 0
    assert round((sum(p.numel() for p in made(name).parameters()) + beside) / 1e6) == params_m
    assert total(counted(name, *size)) / 1e9 == pytest.approx(printed_g, abs=apart)


MULTIPLYING = {"conv", "linear", "matmul", "bmm"}
"""Operators of mmengine's analysis that multiply activations by weights or by each other."""


def analysed(model: nn.Module, run: Any, height: int, width: int) -> dict[str, int]:
    """mmengine's count by operator, of one image of noise."""
    from mmengine.analysis import FlopAnalyzer

    class Pass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> Any:
            return run(self.model, x)

    with torch.no_grad():
        found = FlopAnalyzer(Pass().eval(), torch.randn(1, 3, height, width))
        found.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return {str(name): int(count) for name, count in found.by_operator().items() if count}


def test_mmengine_counts_the_same_products_and_norms_and_resampling_beside() -> None:
    """A detector at the numbers that mmdet's own analysis takes: 1000 proposals, 100 of them to the mask head."""
    from mmdet.structures import DetDataSample

    torch.manual_seed(0)
    size = (256, 320)
    model = build(Configured(config=CONFIGS["mask_rcnn_swin_tiny"][1]), "detection")
    heads: Any = model.roi_head
    rois: list[int] = []
    for head in (heads.bbox_head, heads.mask_head):
        head.register_forward_pre_hook(lambda _, args: rois.append(len(args[0])))
    names = ("img_shape", "ori_shape", "pad_shape", "batch_input_shape")
    sample = DetDataSample(metainfo=dict.fromkeys(names, size) | {"scale_factor": (1.0, 1.0)})
    found = analysed(model, lambda m, x: m._forward(x, [sample]), *size)
    assert rois == [1000, 100]
    assert sum(count for name, count in found.items() if name in MULTIPLYING) == total(
        counted("mask_rcnn_swin_tiny", *size)
    )
    assert found.keys() - MULTIPLYING == {"layer_norm", "upsample_nearest2d"}


@pytest.mark.parametrize(("name", "size"), [("digits_upernet_swin", (128, 128)), ("digits_upernet_vit", (128, 128))])
def test_mmengine_counts_the_same_products_of_a_segmenter(name: str, size: tuple[int, int]) -> None:
    model = build(Configured(config=CONFIGS[name][1]), "segmentation")
    found = analysed(model, lambda m, x: m.decode_head(m.extract_feat(x)), *size)
    assert sum(count for each, count in found.items() if each in MULTIPLYING) == total(counted(name, *size))
    norms = {"layer_norm", "batch_norm", "adaptive_avg_pool2d", "upsample_bilinear2d"}
    assert found.keys() - MULTIPLYING <= norms


def test_attention_of_deit_small_on_512_pixels_by_hand() -> None:
    macs, tokens, width = counted("upernet_deit_small", 512, 512), 32 * 32 + 1, 384
    products = {path: n for path, n in macs.items() if path.endswith((".qk", ".av"))}
    assert len(products) == 2 * 12
    assert set(products.values()) == {tokens * tokens * width}
    assert macs["backbone.patch_embed.projection"] == 1024 * width * 3 * 256
    assert macs["backbone.layers.0.attn.qkv"] == tokens * width * 3 * width
    assert macs["backbone.layers.0.ffn.layers.1"] == tokens * width * 4 * width


def test_windows_are_counted_with_their_padding() -> None:
    """800x1280 pixels are 200x320 patches: 29x46 windows of 7x7 in the first stage."""
    macs = counted("mask_rcnn_swin_tiny", 800, 1280)
    windows, tokens = 29 * 46, 49
    at = "backbone.stages.0.blocks.0"
    assert macs[f"{at}.attn.w_msa.qk"] == macs[f"{at}.attn.w_msa.av"] == windows * tokens * tokens * 96
    assert macs[f"{at}.attn.w_msa.qkv"] == windows * tokens * 96 * 3 * 96
    assert macs[f"{at}.ffn.layers.0.0"] == 200 * 320 * 96 * 4 * 96
    assert macs["backbone.stages.0.downsample.reduction"] == 100 * 160 * 4 * 96 * 2 * 96


@pytest.mark.parametrize("name", ["mask_rcnn_swin_tiny", "digits_mask_rcnn"])
def test_heads_are_counted_at_the_proposals_that_the_configuration_keeps(name: str) -> None:
    model: Any = made(name)
    macs, kept = counted(name, 256, 256), model.test_cfg
    box, mask = model.roi_head.bbox_head, model.roi_head.mask_head
    first = box.shared_fcs[0]
    assert macs["roi_head.bbox_head.shared_fcs.0"] == kept.rpn.max_per_img * first.weight.numel()
    side = model.roi_head.mask_roi_extractor.roi_layers[0].output_size[0]
    conv = mask.convs[0].conv
    assert macs["roi_head.mask_head.convs.0.conv"] == kept.rcnn.max_per_img * side**2 * conv.weight.numel()
    assert macs["roi_head.mask_head.upsample"] == kept.rcnn.max_per_img * side**2 * mask.upsample.weight.numel()
    assert macs["roi_head.mask_head.conv_logits"] == (
        kept.rcnn.max_per_img * (2 * side) ** 2 * mask.conv_logits.weight.numel()
    )
    levels = sum((-(-256 // stride[0])) ** 2 for stride in model.rpn_head.prior_generator.strides)
    assert macs["rpn_head.rpn_conv"] == levels * model.rpn_head.rpn_conv.weight.numel()


def quantized(name: str, scope: str, method: str = "minmax", bits: Bits = Bits(4, 4)) -> Account:  # noqa: B008
    task: Any = CONFIGS[name][0]
    model, chosen = meta_copy(made(name)), load(method)
    part = chosen.prepare(part_of(model, scope), bits, METHODS.load(method, "options").Options())
    with torch.device("meta"):
        batch = scenes_of(torch.empty(1, 3, 128, 128))
        return account(made(name), put_part(model, scope, part), batch, bits, task.forward)


@pytest.mark.parametrize("name", ["digits_mask_rcnn", "digits_upernet_swin", "digits_upernet_vit"])
def test_a_quantized_backbone_leaves_neck_and_heads_in_floating_point(name: str) -> None:
    result, macs = quantized(name, "backbone"), counted(name, 128, 128)
    rows = {row.path: row for row in result.layers if row.macs}
    assert rows.keys() == macs.keys()
    within = {path for path in macs if path.startswith("backbone.")}
    assert {(rows[path].left_bits, rows[path].right_bits) for path in within} == {(4, 4)}
    assert {(rows[path].left_bits, rows[path].right_bits) for path in macs.keys() - within} == {(32, 32)}
    inner, outer = total(macs, "backbone."), total(macs) - total(macs, "backbone.")
    assert result.operations.bitops == inner * 16 + outer * 1024
    ends = macs["backbone.patch_embed.projection"]
    assert result.operations.conventions["bitops_ends_8bit"] == (inner - ends) * 16 + ends * 64 + outer * 1024
    weights = sum(rows[path].weight_params for path in within - {"backbone.patch_embed.projection"})
    assert result.size.conventions["block_weights"] == pytest.approx(weights * 4 / 8e6)
    assert sum(row.packed_bytes for row in result.layers) == round(result.size.packed_mb * 1e6)


def test_the_whole_model_is_quantized_but_for_transposed_convolutions() -> None:
    """No paper says what becomes of the mask head's upsampling; it stays in floating point."""
    rows = [row for row in quantized("digits_mask_rcnn", WHOLE).layers if row.macs]
    assert [row.path for row in rows if row.right_bits == 32] == ["roi_head.mask_head.upsample"]
    assert {row.kind for row in rows} == {"linear", "conv2d", "matmul"}


BITS = {"fp32": Bits(32, 32), "binary_vit": Bits(1, 1), "i_vit": Bits(8, 8), "psaq_vit_v2": Bits(4, 8)}


@pytest.mark.parametrize("name", ["digits_mask_rcnn", "digits_upernet_vit"])
@pytest.mark.parametrize("method", sorted(all_cards()))
def test_every_method_on_a_backbone_is_counted_without_data_on_the_meta_device(method: str, name: str) -> None:
    bits = BITS.get(method, Bits(4, 4))
    result = quantized(name, "backbone", method, bits)
    rows = {row.path: row for row in result.layers if row.macs}
    assert {path: row.macs for path, row in rows.items()} == counted(name, 128, 128)
    layers = [row for path, row in rows.items() if path.startswith("backbone.") and row.kind == "linear"]
    assert {row.right_bits for row in layers if "reduction" not in row.path or method != "binary_vit"} == {bits.w}
    assert all(row.right_bits == 32 for path, row in rows.items() if not path.startswith("backbone."))
