"""Accounting against the published table of sizes and operations, and its own arithmetic."""

from __future__ import annotations

import csv
import functools
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from counting import account, count_macs
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitq.benchmarks.measure.accounting import Account
from vitq.benchmarks.measure.macs import explicit_copy
from vitq.benchmarks.measure.sizes import Stored, parameter_count, stored_tensors
from vitq.methods.architectures.explicit import MatMul, make_explicit
from vitq.methods.binary_vit import method as binary_vit
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.registry import load
from vitq.methods.served import meta_copy
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.modules import replace_modules
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.quantizers import UniformQuantizer
from vitq.methods.toolkit.stored import Packed

SIZE = (3, 224, 224)
TIMM = {
    "DeiT-T": "deit_tiny_patch16_224",
    "DeiT-S": "deit_small_patch16_224",
    "DeiT-B": "deit_base_patch16_224",
    "Swin-T": "swin_tiny_patch4_window7_224",
    "Swin-S": "swin_small_patch4_window7_224",
}
FIGURES = {"deit_tiny": "DeiT-T", "deit_small": "DeiT-S", "deit_base": "DeiT-B", "swin_tiny": "Swin-T"}
FIGURES |= {"swin_small": "Swin-S", "vit_small": "DeiT-S", "vit_base": "DeiT-B"}
ENDS = ("patch_embed", "head")


@functools.cache
def build(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(TIMM[name], pretrained=False).eval()


class BinaryLinear(nn.Linear):
    """A stand-in: 1-bit weight and input, bias and one scale a row in FP32."""

    def operand_bits(self) -> tuple[int, int]:
        return 1, 1

    def packed_tensors(self) -> list[Packed]:
        assert self.bias is not None
        return [
            Packed("weight", self.weight.numel(), 1),
            Packed("bias", self.bias.numel(), 32),
            Packed("scale", self.out_features, 32),
        ]


class BinaryMatMul(MatMul):
    def operand_bits(self) -> tuple[int, int]:
        return 1, 1


def binarize(model: nn.Module) -> nn.Module:
    def swap(name: str, module: nn.Module) -> nn.Module | None:
        if name.startswith(ENDS):
            return None
        if isinstance(module, nn.Linear):
            return BinaryLinear(module.in_features, module.out_features, device="meta")
        return BinaryMatMul() if isinstance(module, MatMul) else None

    return replace_modules(make_explicit(meta_copy(model)), swap)


def uniform(model: nn.Module, bits: int, ends: int | None) -> nn.Module:
    """Every product quantized to `bits`, patch embedding and head to `ends` bits (None: FP)."""

    def grid(width: int, channels: int | None = None) -> UniformQuantizer:
        return UniformQuantizer(width, MinMax(), axis=None if channels is None else 0, channels=channels or 1)

    def swap(name: str, module: nn.Module) -> nn.Module | None:
        width = ends if name.split(".")[0] in ENDS else bits
        if width is None:
            return None
        if isinstance(module, nn.Linear):
            return QLinear.of(module, grid(width, module.out_features), grid(width))
        if isinstance(module, nn.Conv2d):
            return QConv2d.of(module, grid(width, module.out_channels), grid(width))
        return QMatMul(grid(width), grid(width)) if isinstance(module, MatMul) else None

    return replace_modules(make_explicit(meta_copy(model)), swap)


@functools.cache
def counted(name: str, form: str) -> Account:
    model = build(name)
    quantized = binarize(model) if form == "binary" else model
    return account(model, quantized, SIZE, {"binary": Bits(1, 1), "fp32": Bits(32, 32), "int8": Bits(8, 8)}[form])


@functools.cache
def published(shared: Path) -> dict[str, list[str]]:
    """The rows of the table in accounting.md by model: cells after the name, commas out."""
    lines = (shared / "papers" / "accounting.md").read_text().splitlines()
    rows = [[cell.strip().replace(",", "") for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return {row[0]: row[1:] for row in rows if row[0] in TIMM}


@pytest.mark.parametrize("name", ["DeiT-T", "DeiT-S", "DeiT-B"])
def test_every_column_of_the_published_table(name: str, shared: Path) -> None:
    params, fp32_mb, block_mb, rest_mb, macs, ops_and_ratio = published(shared)[name]
    result = counted(name, "binary")
    size, operations = result.size, result.operations
    assert str(size.params) == params
    assert f"{size.fp32_mb:.2f}" == fp32_mb
    assert f"{size.conventions['block_weights']:.3f}" == block_mb
    assert f"{size.conventions['no_block_bias_no_scale']:.3f}" == rest_mb
    assert f"{operations.macs / 1e6:.1f}" == macs
    printed = f"{operations.ops / 1e6:.1f} ({operations.conventions['ops_ratio']:.1f})"
    assert printed == ops_and_ratio


@pytest.mark.parametrize(("name", "macs_g", "fp32_mb"), [("Swin-T", 4.49, 113.15), ("Swin-S", 8.74, 198.43)])
def test_swin_sizes_and_macs_as_printed(name: str, macs_g: float, fp32_mb: float) -> None:
    result = counted(name, "fp32")
    assert round(result.size.fp32_mb, 2) == fp32_mb
    assert round(result.operations.macs / 1e9, 2) == macs_g


def test_every_derived_figure_is_reproduced_at_its_printed_precision(shared: Path) -> None:
    with (shared / "papers" / "figures.csv").open(newline="") as file:
        derived = [row for row in csv.DictReader(file) if row["evidence"] == "derived"]
    assert len(derived) >= 8
    for row in derived:
        result = counted(FIGURES[row["model"]], "fp32")
        measured = {"params_m": result.size.params / 1e6, "macs_g": result.operations.macs / 1e9}[row["metric"]]
        decimals = len(row["value"].partition(".")[2])
        assert f"{measured:.{decimals}f}" == row["value"], row


def test_i_vit_sizes_by_its_own_convention_within_the_million_it_rounds_to(shared: Path) -> None:
    with (shared / "papers" / "figures.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if (r["method"], r["metric"]) == ("i_vit", "model_size_mb")]
    assert len(rows) == 7
    for row in rows:
        conventions = counted(FIGURES[row["model"]], "int8").size.conventions
        assert conventions["params_x_bits"] == pytest.approx(float(row["value"]), abs=1), row
        assert conventions["params_x_32"] == pytest.approx(float(row["fp_value"]), abs=4), row


def test_binary_ratios_of_deit_small_each_by_its_reading() -> None:
    result = counted("DeiT-S", "binary")
    assert round(result.size.conventions["model_size_ratio"], 2) == 16.18
    assert round(result.size.conventions["no_block_bias_no_scale_no_position"], 3) == 5.452
    assert round(result.size.conventions["model_size_ratio_every_parameter"], 1) == 14.9
    assert round(result.operations.conventions["ops_ratio"], 1) == 35.6
    assert round(result.operations.conventions["ops_ratio_mixed_units"], 1) == 17.8
    scales = 12 * (3 * 384 + 384 + 4 * 384 + 384) * 4 / 1e6
    assert result.size.packed_mb == pytest.approx(result.size.conventions["every_parameter"] + scales, abs=1e-9)


@pytest.mark.parametrize(("bits", "expected"), [(4, 76.4), (6, 167.2), (8, 294.3)])
def test_bitops_of_deit_small_with_8_bit_ends(bits: int, expected: float) -> None:
    model = build("DeiT-S")
    result = account(model, uniform(model, bits, ends=8), SIZE, Bits(bits, bits)).operations
    assert round(result.bitops / 1e9, 1) == expected
    same = account(model, uniform(model, bits, ends=bits), SIZE, Bits(bits, bits)).operations
    assert round(same.conventions["bitops_ends_8bit"] / 1e9, 1) == expected
    assert same.bitops == same.macs * bits * bits


def test_fp32_counts_32_bits_everywhere_and_one_flop_a_mac() -> None:
    result = counted("Swin-T", "fp32")
    assert result.operations.bitops == result.operations.macs * 1024
    assert result.operations.ops == result.operations.macs
    assert result.size.packed_mb == pytest.approx(result.size.fp32_mb)
    assert "ops_ratio" not in result.operations.conventions
    assert "model_size_ratio" not in result.size.conventions


@pytest.mark.parametrize("name", list(TIMM))
def test_explicit_and_fused_forms_have_the_same_macs(name: str) -> None:
    model = build(name)
    fused, explicit = count_macs(model, SIZE), count_macs(explicit_copy(model), SIZE)
    assert sum(fused.values()) == sum(explicit.values())
    for path, macs in fused.items():
        below = sum(n for other, n in explicit.items() if other in (f"{path}.qk", f"{path}.av"))
        assert macs == (explicit.get(path, below)), path


def small() -> nn.Module:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 3,
        "num_classes": 10,
    }
    return timm.models.VisionTransformer(**shape).eval()


def test_macs_of_one_block_by_hand() -> None:
    macs, (n, c) = count_macs(explicit_copy(small()), (3, 32, 32)), (17, 48)
    assert macs["patch_embed.proj"] == 16 * 48 * 3 * 64
    assert macs["blocks.0.attn.qkv"] == n * c * 3 * c
    assert macs["blocks.0.attn.qk"] == macs["blocks.0.attn.av"] == n * n * c
    assert macs["blocks.1.mlp.fc2"] == n * c * 4 * c
    assert macs["head"] == 48 * 10
    assert len(macs) == 1 + 2 * 6 + 1


def test_counting_touches_neither_model() -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    classes = [type(module) for module in model.modules()]
    account(model, uniform(model, 4, 4), (3, 32, 32), Bits(4, 4))
    assert [type(module) for module in model.modules()] == classes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_packed_size_of_a_4_bit_model_by_hand() -> None:
    model = small()
    result = account(model, uniform(model, 4, 4), (3, 32, 32), Bits(4, 4))
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    rest = parameter_count(model) - weights
    rows = 48 + 2 * (3 * 48 + 48 + 4 * 48 + 48) + 10
    grids = 2 * (rows + 10 + 2 * 2 * 2)  # scale and zero point: a row of weights, 10 inputs, 2 products of 2 operands
    assert result.size.packed_mb * 1e6 == pytest.approx(weights / 2 + 4 * rest + 4 * grids)


def test_layer_table_adds_up_to_the_totals() -> None:
    model = small()
    result = account(model, uniform(model, 4, None), (3, 32, 32), Bits(4, 4))
    assert sum(row.macs for row in result.layers) == result.operations.macs
    assert sum(row.packed_bytes for row in result.layers) == round(result.size.packed_mb * 1e6)
    rows = {row.path: row for row in result.layers}
    assert (rows["head"].kind, rows["head"].left_bits, rows["head"].weight_params) == ("linear", 32, 480)
    assert (rows["blocks.0.attn.qk"].kind, rows["blocks.0.attn.qk"].right_bits) == ("matmul", 4)
    assert rows["blocks.0.norm1"].packed_bytes == 2 * 48 * 4
    assert rows[""].packed_bytes == (17 + 1) * 48 * 4


def test_mean_widths_of_mixed_precision_need_not_be_integers() -> None:
    class Mixed(nn.Linear):
        def operand_bits(self) -> tuple[float, float]:
            return 4.5, 4

    model = small()
    mixed = make_explicit(meta_copy(model))
    replace_modules(mixed, lambda name, _: Mixed(48, 144) if name == "blocks.0.attn.qkv" else None)
    operations = account(model, mixed, (3, 32, 32), Bits(4, 4)).operations
    qkv = 17 * 48 * 144
    assert operations.bitops == (operations.macs - qkv) * 1024 + qkv * 18


@pytest.mark.parametrize("where", ["blocks.0.attn", "blocks.0.extra", "blocks.0"])
def test_widths_where_nothing_is_multiplied_are_an_error(where: str) -> None:
    quantized = make_explicit(small())
    parent, _, leaf = where.rpartition(".")
    holder = BinaryMatMul()
    quantized.get_submodule(parent).add_module(leaf, holder)
    with pytest.raises(ValueError, match=where):
        account(small(), quantized, (3, 32, 32), Bits(1, 1))


def test_widths_of_a_quantized_sum_count_no_products() -> None:
    quantized = make_explicit(small())
    quantized.get_submodule("blocks.0").add_module("add1", BinaryMatMul())
    assert account(small(), quantized, (3, 32, 32), Bits(8, 8)).operations.ops == sum(
        count_macs(small(), (3, 32, 32)).values()
    )


@given(numel=st.integers(0, 10**7), bits=st.integers(1, 32))
def test_a_tensor_takes_the_fewest_whole_bytes_that_hold_it(numel: int, bits: int) -> None:
    size = Stored("path", "weight", numel, bits).bytes
    assert size == math.ceil(numel * bits / 8)
    assert 8 * size >= numel * bits > 8 * (size - 1) - 1


def test_buffers_count_only_when_they_are_saved_and_shared_tensors_once() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4, bias=False)
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight
            self.register_buffer("saved", torch.zeros(3, dtype=torch.int8))
            self.register_buffer("derived", torch.zeros(100), persistent=False)
            self.register_buffer("absent", None)

    assert {(s.path, s.name): s.bytes for s in stored_tensors(Holder())} == {("", "saved"): 3, ("first", "weight"): 64}


def test_a_module_that_speaks_for_its_subtree_is_not_counted_twice() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def packed_tensors(self) -> list[Packed]:
            return [Packed("codes", 64, 2)]

    assert sum(s.bytes for s in stored_tensors(nn.Sequential(Wrapper(), nn.Linear(2, 2)))) == 16 + 24


BITS = {"fp32": Bits(32, 32), "binary_vit": Bits(1, 1), "i_vit": Bits(8, 8)}


@pytest.mark.parametrize("method", sorted(all_cards()))
def test_every_method_is_counted_without_data_on_the_meta_device(method: str) -> None:
    module, bits = load(method), BITS.get(method, Bits(4, 4))
    model = build("DeiT-T")
    prepared = module.prepare(meta_copy(model), bits, module.Options())
    result = account(model, prepared, SIZE, bits)
    products = [row for row in result.layers if row.macs]
    assert len(products) == 1 + 12 * 6 + 1
    assert all(row.right_bits <= 32 for row in products)
    blocks = [row for row in products if row.path.startswith("blocks") and row.kind == "linear"]
    assert {row.right_bits for row in blocks} == {bits.w}
    assert result.size.packed_mb >= result.size.conventions["block_weights"]
    assert result.size.packed_mb < result.size.fp32_mb * (bits.w / 32 + 0.15)


def test_the_binary_method_itself_gives_the_ratios_of_the_paper() -> None:
    model, module = build("DeiT-S"), binary_vit
    result = account(model, module.prepare(meta_copy(model), Bits(1, 1), module.Options()), SIZE, Bits(1, 1))
    size, operations = result.size.conventions, result.operations.conventions
    assert round(size["model_size_ratio"], 2) == 16.18
    assert round(size["model_size_ratio_every_parameter"], 1) == 14.9
    assert size["model_size_ratio_packed"] < size["model_size_ratio_every_parameter"]
    assert (round(operations["ops_ratio"], 1), round(operations["ops_ratio_mixed_units"], 1)) == (35.6, 17.8)
