"""FQ-ViT's formulas against brute force and floating point, and whole models through vitq's own path."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from vitq_fq_vit.layernorm import integer_layernorm
from vitq_fq_vit.log_int_softmax import int_exp, log_codes
from vitq_fq_vit.method import FactorQuantizer
from vitq_fq_vit.options import Options
from vitq_fq_vit.ranges import LeastError, MovingRange, PowerOfTwoFactors

import vitq
from vitq.benchmarks.measure.accounting import account
from vitq.datasets.calibration import Calibration
from vitq.datasets.registry import DATASETS
from vitq.errors import UnsupportedError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.registry import load
from vitq.methods.toolkit import saving
from vitq.subject import Subject
from vitq.tasks.base import Places
from vitq.tasks.names import model_entry
from vitq.tasks.registry import load as load_task

METHOD, TASK = load("fq_vit"), load_task("classification")
SEEDS = st.integers(0, 2**20)


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def error(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Squared error of one channel, written out."""
    codes = torch.clamp(torch.round(x / scale + zero), 0, 2**bits - 1)
    return ((codes - zero) * scale - x).square().double().sum()


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([4, 6, 8]))
def test_factors_are_those_of_least_error_on_the_last_batch(seed: int, bits: int) -> None:
    spread = torch.logspace(-3, 0, 12, base=2)
    first, last = (torch.randn(2, 5, 12, generator=dice(seed + i)) * spread * (2 - i) for i in range(2))
    quantizer = FactorQuantizer(bits, 12)
    quantizer.observe(first)
    assert isinstance(quantizer.grid, PowerOfTwoFactors)
    quantizer.grid.keep = True
    quantizer.observe(last)
    quantizer.fit()
    both = torch.cat([first, last])
    largest = (both.max() - both.min()) / (2**bits - 1)
    zero = torch.clamp(torch.round(-both.min() / largest), 0, 2**bits - 1)
    assert torch.equal(quantizer.zero_point, zero.expand(12))
    for channel in range(12):
        scales = [largest / 8 * 2**alpha for alpha in range(4)]
        errors = [error(last[..., channel], scale, zero, bits) for scale in scales]
        best = min(range(4), key=lambda alpha: (float(errors[alpha]), alpha))
        assert quantizer.scale[channel] == scales[best]


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0.002, 0.02))
def test_log_int_softmax_is_near_the_logarithm_of_a_softmax(seed: int, scale: float) -> None:
    """Between n and n + 1 the code is n below log2(1.5) = 0.585; ratios are whole before that, 2.5 is 3 and its code 2.

    A whole number of steps stands for ln 2, too many by less than one: each of `wanted` halvings is off by s/ln 2, and
    the sum of 16 by at most 4 of them. The polynomial is off by less than a percent, 0.02 in the logarithm.
    """
    x = torch.randint(-128, 128, (4, 16), generator=dice(seed)).float()
    codes = log_codes(int_exp(x - x.amax(-1, keepdim=True), scale)).double()
    wanted = -F.log_softmax(x.double() * scale, dim=-1) / torch.log(torch.tensor(2.0, dtype=torch.double))
    off, drift = codes - wanted, scale / 0.6931
    assert bool((off > -0.585 - 0.02 - drift * wanted).all())
    assert bool((off < 2 - 1.321 + 0.02 + drift * 4).all())


def test_an_exponential_is_near_on_fine_grids_and_zero_on_coarse_ones() -> None:
    x = -torch.arange(4000.0)
    found, wanted = int_exp(x, 0.001) / int_exp(torch.zeros(1), 0.001), (x * 0.001).exp()
    assert bool(((found / wanted).log2().abs() <= 0.02 + 0.001 / 0.6931 * (x * 0.001).abs() / 0.6931).all())
    assert int_exp(torch.zeros(3), 1.7).tolist() == [0, 0, 0]
    assert log_codes(torch.zeros(1, 3)).min() > 2**20


def layernorm_bound(x: Tensor, gamma: Tensor, s_out: Tensor) -> Tensor:
    """Two roundings, and a multiplier whose last of 8 bits is cut off."""
    a_q = (x / x.std(-1, correction=0, keepdim=True) * gamma / s_out).abs()
    return 1.01 + a_q / 128


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_integer_layernorm_is_near_layernorm(seed: int) -> None:
    draw = dice(seed)
    q = torch.randint(-1000, 1000, (3, 48), generator=draw).float()
    gamma, beta = torch.randn(48, generator=draw), torch.randn(48, generator=draw)
    s1, s_out = torch.tensor(0.004), torch.tensor(0.05)
    found = integer_layernorm(q * s1, s1, gamma, beta, s_out)
    wanted = F.layer_norm((q * s1).double(), (48,), gamma.double(), beta.double(), 0.0)
    assert bool(((found - wanted).abs() / s_out <= layernorm_bound(q * s1, gamma, s_out)).all())
    assert torch.allclose(found / s_out, (found / s_out).round(), atol=1e-3)


def test_integer_layernorm_survives_tokens_of_one_value_and_dead_channels() -> None:
    beta, step = torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor(0.5)
    constant = integer_layernorm(torch.ones(2, 4), torch.tensor(0.5), torch.ones(4), beta, step)
    assert torch.equal(constant, beta.expand(2, 4))
    dead = integer_layernorm(torch.randn(2, 4), torch.tensor(0.01), torch.zeros(4), beta, step)
    assert torch.equal(dead, beta.expand(2, 4))


def test_observers_move_shrink_or_keep_their_range() -> None:
    moving, best = MovingRange(), LeastError()
    for x in (torch.tensor([-1.0, 1.0]), torch.tensor([-3.0, 2.0])):
        moving.update(x)
    assert (float(moving.low), float(moving.high)) == pytest.approx((-1.02, 1.01))  # type: ignore[arg-type]
    best.keep = True
    best.update(torch.cat([torch.linspace(-1, 1, 5000), torch.tensor([50.0])]))
    scale, _ = best.grid(4)
    assert float(scale) < 51 / 15


@pytest.fixture(scope="module")
def batch() -> Any:
    return next(iter(opened("digits_vit").calibration()))


def opened(model: str) -> Any:
    how, spec = model_entry(model).preprocessing, Calibration.parse({"images": 16, "batch": 8})
    return DATASETS.load("digits").open(how, spec, {}, limit=60, seed=0, workers=0)


def quantized(model: str, bits: str, **options: Any) -> tuple[Quantized, Subject]:
    subject = TASK.subject(TASK.load_model(model, Places()), opened(model))
    done = METHOD.quantize(subject, Bits.parse(bits), Options(**options))
    done.model.eval()
    return done, subject


@pytest.mark.parametrize("model", ["digits_vit", "digits_swin"])
@pytest.mark.parametrize(
    "options",
    [{}, {"softmax": "uniform"}, {"ptf": False, "softmax": "uniform", "observer": "percentile"}],
    ids=["8/8/4", "8/8/8", "baseline"],
)
def test_a_model_is_quantized_saved_and_loaded(model: str, options: dict[str, Any], tmp_path: Path, batch: Any) -> None:
    fp32 = TASK.load_model(model, Places()).model
    done, subject = quantized(model, "W8A8", **options)
    with torch.no_grad():
        ours, plain = done.model(batch[0]), fp32(batch[0])
    assert (ours - plain).norm() < 0.4 * plain.norm()
    architecture = {"task": "classification", "model": model_entry(model).model_dump(mode="json", by_alias=True)}
    words = dataclasses.asdict(Options(**options))
    saved = saving.save(
        done,
        tmp_path / "m.safetensors",
        saving.header_of("fq_vit", words, "W8A8", "model", done.facts, done.exec, architecture, {}),
    )
    with torch.no_grad():
        assert torch.equal(vitq.load(saved.path)(batch[0]), ours)
    assert subject.input.mean == (0.5,) * 3
    assert done.facts == {"left_out": ["patch_embed.proj.input_quantizer"]}


def test_widths_of_the_attention_map_are_counted() -> None:
    fp32 = TASK.load_model("digits_vit", Places())
    for options, left in ((Options(), 4), (Options(softmax="uniform"), 8)):
        part = METHOD.prepare(TASK.load_model("digits_vit", Places()).model, Bits(8, 8), options)
        sample = TASK.example(fp32.preprocessing, 1, "meta")
        found = account(fp32.model, part.to("meta"), sample, Bits(8, 8), TASK.forward)
        rows = {row.path: (row.left_bits, row.right_bits) for row in found.layers}
        assert rows["blocks.0.attn.av"] == (left, 8)
        assert rows["patch_embed.proj"] == rows["head"] == rows["blocks.1.attn.qk"] == (8, 8)


def test_a_part_is_quantized_by_its_scope_and_refused_without() -> None:
    whole = nn.Sequential(TASK.load_model("digits_vit", Places()).model, nn.Softmax(-1))
    with pytest.raises(UnsupportedError, match="give the scope of a plain ViT or Swin"):
        METHOD.prepare(whole, Bits(8, 8), Options())
    subject = TASK.subject(TASK.load_model("digits_vit", Places()), opened("digits_vit"), scope="0")
    subject.model = whole
    done = METHOD.quantize(subject, Bits(8, 8), Options())
    assert isinstance(done.model[1], nn.Softmax)  # type: ignore[index]


def test_what_cannot_be_had_is_said_before_a_cell_runs() -> None:
    assert "2..8 bits" in str(METHOD.unsupported(Bits(1, 8), Options()))
    assert "not to 9" in str(METHOD.unsupported(Bits(8, 8), Options(attention_bits=9)))
    assert METHOD.unsupported(Bits(8, 8), Options()) is None


def test_what_an_exporter_does_not_know_it_refuses_by_name() -> None:
    pytest.importorskip("onnx")
    from vitq.benchmarks.runtimes.onnx_export.export import unsupported

    done, _ = quantized("digits_vit", "W8A8")
    assert str(unsupported(done.model, done.exec)).endswith("of vitq_fq_vit, which has no QDQ form")
