"""I-ViT's integers in Triton: every logit as the integer form's, and kernels as their formulas at extremes."""

from __future__ import annotations

import pytest
import torch
from i_vit_models import SIZE, batches, calibrated, swin, vit
from torch import Tensor
from triton_places import DEVICE, first_tile_alone, run_interpreted, where_kernels_run

pytest.importorskip("triton", reason="triton is not installed: pip install triton")

from vitq.benchmarks.runtimes.triton_integer import runtime
from vitq.errors import UnsupportedError
from vitq.methods.i_vit import operators_paper
from vitq.methods.i_vit.dyadic import Dyadic, requantize
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.network import Network

ODD = {"embed_dim": 48, "num_heads": 3, "num_classes": 70, "depth": 1}
EXTREMES = [-(2**31), -(2**31) + 1, -12345678, -129, -1, 0, 1, 127, 2**30, 2**31 - 1]


@pytest.fixture(autouse=True)
def _few_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "whichever_tile" not in request.node.name:
        first_tile_alone(monkeypatch)


def network_of(forms: Forms, **words: int) -> tuple[Network, Tensor]:
    return integer(calibrated(vit(**words), forms), SIZE).to(DEVICE), batches(1)[0][0].to(DEVICE)


@where_kernels_run
@pytest.mark.parametrize(
    ("words", "batch", "rounding"),
    [({}, 1, "nearest"), (ODD, 3, "floor"), (ODD, 1, "nearest")],
    ids=["even", "odd widths", "odd widths, one image"],
)
def test_the_engine_gives_the_integer_forms_logits(words, batch, rounding):
    network, images = network_of(Forms(rounding=rounding), **words)
    images = images[:batch]
    engine = runtime.compile(network, images, threads=1, device=DEVICE)
    for given in (images, 40 * images):
        assert torch.equal(engine(given), network(given))


@where_kernels_run
def test_logits_are_the_same_whichever_tile_is_fastest():
    network, images = network_of(Forms(), depth=1)
    assert torch.equal(runtime.compile(network, images[:2], threads=1, device=DEVICE)(images[:2]), network(images[:2]))


@where_kernels_run
def test_logits_are_the_callers_own():
    network, images = network_of(Forms(), depth=1)
    engine = runtime.compile(network, images[:1], threads=1, device=DEVICE)
    first, kept = engine(images[:1]), network(images[:1])
    engine(images[1:2])
    assert torch.equal(first, kept)
    with pytest.raises(ValueError, match="compiled for"):
        engine(images[:2])


@where_kernels_run
def test_the_polynomial_ablations_run_as_tables():
    network, images = network_of(Forms(softmax="polynomial", gelu="polynomial"), depth=1)
    engine = runtime.compile(network, images[:2], threads=1, device=DEVICE)
    assert torch.equal(engine(images[:2]), network(images[:2]))


@where_kernels_run
def test_a_scale_too_fine_for_the_short_exponential_runs_as_a_table():
    network, images = network_of(Forms(), depth=1)
    for name, buffer in network.named_buffers():
        if name.endswith("softmax.constant0"):
            buffer.fill_(2**20)
    engine = runtime.compile(network, images[:2], threads=1, device=DEVICE)
    assert not engine.blocks[0].softmax.narrow
    assert torch.equal(engine(images[:2]), network(images[:2]))


@where_kernels_run
@pytest.mark.parametrize("forms", [Forms(softmax="log_int"), Forms(softmax_bits=16), Forms(layernorm="l1")])
def test_what_has_no_kernel_is_refused(forms):
    network, images = network_of(forms, depth=1)
    with pytest.raises(UnsupportedError):
        runtime.compile(network, images, threads=1, device=DEVICE)


@where_kernels_run
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
def test_requantization_is_exact_at_int32_extremes(rounding):
    """Through a product with one: codes enter as biases, each with every multiplier at shifts from 0 to 62."""
    from vitq.benchmarks.runtimes.gpu import products

    codes = torch.tensor(EXTREMES, dtype=torch.int32).repeat(14)
    multiplier = torch.tensor([2**30, 2**31 - 1, -(2**30), -(2**31) + 1, 0, 1, 1234567891], dtype=torch.int32)
    multiplier = multiplier.repeat_interleave(20)
    for shift in (0, 1, 31, 32, 33, 34, 45, 62):
        shifts = torch.full_like(codes, shift)
        wanted = requantize(codes, Dyadic(multiplier, shifts), 8, rounding)
        for high in (False, True) if shift >= 33 else (False,):
            out = torch.zeros(1, len(codes), dtype=torch.int8, device=DEVICE)
            row = torch.zeros(1, 32, dtype=torch.int8, device=DEVICE)
            weight = torch.zeros(len(codes), 32, dtype=torch.int8, device=DEVICE)
            numbers = (codes.to(DEVICE), multiplier.to(DEVICE), shifts.to(DEVICE))
            products.linear8[(9,)](
                row, 32, weight, *numbers, rounding == "nearest", high, out, len(codes), 1, len(codes), 32, 16, 16, 32
            )
            assert torch.equal(out[0].cpu().long(), wanted), (shift, high)


@where_kernels_run
def test_a_norm_is_exact_where_newton_s_steps_do_not_settle():
    """Rows whose sum of squares is one below a square, others, and rows of one value, with codes of 24 bits."""
    from vitq.benchmarks.runtimes.gpu import rows

    torch.manual_seed(0)
    around = [[1, -1, 1, 0, -1, 0, 0, 0], [2, -2, 0, 0, 0, 0, 0, 0], [4, -4, 4, -4, 1, -1, 3, -3], [5] * 8]
    codes = torch.cat([torch.tensor(around), torch.randint(-(2**23), 2**23, (4, 8))]).to(torch.int32)
    codes = torch.cat([codes, torch.randint(-9, 10, (12, 8)).to(torch.int32)])
    multiplier, bias = torch.full((8,), 2**30, dtype=torch.int32), torch.zeros(8, dtype=torch.int64)
    for shift, high in ((44, True), (52, True), (52, False), (30, False)):
        out = torch.zeros(len(codes), 8, dtype=torch.int8, device=DEVICE)
        numbers = [x.to(DEVICE) for x in (multiplier, bias, torch.tensor([shift], dtype=torch.int32))]
        rows.layer_norm[(len(codes),)](codes.to(DEVICE), 8, *numbers, high, out, 8, 8)
        normal = operators_paper.normalize(codes.long())
        assert torch.equal(out.cpu().long(), ((normal << 30) >> shift).clamp(-128, 127))


@where_kernels_run
def test_models_that_are_not_served_are_named():
    assert "swin" in str(runtime.unsupported(integer(calibrated(swin(), Forms()), SIZE), "integer-only:torch")).lower()
    assert runtime.unsupported(vit(), "integer-only:torch")
    assert runtime.unsupported(integer(calibrated(vit(), Forms()), SIZE), "fp32")


def test_another_device_is_refused_in_one_line(monkeypatch):
    network = integer(calibrated(vit(depth=1), Forms()), SIZE)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UnsupportedError, match="on a CUDA device, not on cpu"):
        runtime.compile(network, batches(1)[0][0], threads=1, device=torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "no CUDA device" in str(runtime.missing())
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert runtime.missing() is None


@pytest.mark.slow
def test_in_triton_s_interpreter():
    """All of the above on the CPU, in a process of its own: Triton asks when kernels are imported."""
    run_interpreted(__file__, least=11)
