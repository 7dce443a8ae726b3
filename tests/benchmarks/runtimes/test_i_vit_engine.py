"""The integer-only engine: every logit as the integer form's, and fused kernels as their formulas at extremes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from i_vit_models import SIZE, batches, calibrated, swin, vit

from vitq.errors import UnsupportedError
from vitq.methods.i_vit.dyadic import Dyadic, requantize
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Requantize
from vitq.methods.i_vit.integer import integer

pytest.importorskip("numba")

from vitq.benchmarks.runtimes.i_vit import kernels, parts, vector
from vitq.benchmarks.runtimes.numba_integer import runtime

CPU = torch.device("cpu")
ODD = {"embed_dim": 48, "num_heads": 3, "num_classes": 70}
INT32 = st.integers(-(2**31), 2**31 - 1)


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("words", [{}, ODD], ids=["even", "odd widths"])
@pytest.mark.parametrize("rounding", ["nearest", "floor"])
def test_the_engine_gives_the_integer_forms_logits(words, batch, rounding):
    network = integer(calibrated(vit(**words), Forms(rounding=rounding)), SIZE)
    images = batches(1)[0][0][:batch]
    engine = runtime.compile(network, images, threads=2, device=CPU)
    for given_images in (images, 40 * images, torch.zeros_like(images), -images):
        assert torch.equal(engine(given_images), network(given_images))


def test_the_polynomial_ablations_run_as_tables():
    network = integer(calibrated(vit(), Forms(softmax="polynomial", gelu="polynomial")), SIZE)
    images = batches(1)[0][0]
    assert torch.equal(runtime.compile(network, images, threads=1, device=CPU)(images), network(images))


@pytest.mark.parametrize("forms", [Forms(softmax="log_int"), Forms(softmax_bits=16), Forms(layernorm="l1")])
def test_what_has_no_kernel_is_refused(forms):
    network = integer(calibrated(vit(), forms), SIZE)
    with pytest.raises(UnsupportedError):
        runtime.compile(network, batches(1)[0][0], threads=1, device=CPU)


def test_models_that_are_not_served_are_named():
    assert "swin" in str(runtime.unsupported(integer(calibrated(swin(), Forms()), SIZE), "integer-only:torch")).lower()
    assert runtime.unsupported(vit(), "integer-only:torch")
    assert runtime.unsupported(integer(calibrated(vit(), Forms()), SIZE), "fp32")


@settings(deadline=None, max_examples=100)
@given(
    st.lists(INT32, min_size=64, max_size=64),
    st.integers(-(2**31) + 1, 2**31 - 1),
    st.integers(0, 62),
    st.sampled_from(["nearest", "floor"]),
)
def test_requantization_is_exact_at_int32_extremes(codes, multiplier, shift, rounding):
    number = Requantize(torch.ones(()), 8, rounding)
    number.multiplier.fill_(multiplier)
    number.shift.fill_(shift)
    scale, out = parts.scale_of(number, 64), np.zeros(64, np.uint8)
    given_codes = torch.tensor(codes, dtype=torch.int32)
    kernels.requantize8(given_codes.numpy(), 0, scale, 0, out, 0, 64)
    wanted = requantize(given_codes, Dyadic(number.multiplier, number.shift), 8, rounding)
    assert (out.astype(int) - 128 == wanted.numpy()).all()


@pytest.mark.parametrize("tile", [vector.tile, vector.plain_tile], ids=["this CPU", "any CPU"])
@pytest.mark.parametrize("steps", [1, 5, 96])
def test_a_tile_is_the_product_of_its_operands(tile, steps):
    random = np.random.default_rng(steps)
    for low, high in ((-128, 128), (-128, -127), (127, 128)):
        left = random.integers(low + 128, high + 128, (vector.ROWS, 4 * steps), dtype=np.uint8)
        right = random.integers(low, high, (4 * steps, vector.COLUMNS), dtype=np.int8)
        start = random.integers(-(2**31), 2**31, vector.COLUMNS, dtype=np.int64).astype(np.int32)
        packed = np.ascontiguousarray(right.reshape(steps, 4, -1).transpose(0, 2, 1)).reshape(-1)
        out = np.zeros(vector.ROWS * vector.COLUMNS, np.int32)
        tile(left.reshape(-1), 0, 4 * steps, packed, 0, start, 0, out, 0, vector.COLUMNS, steps)
        wanted = left.astype(np.int64) @ right.astype(np.int64) + start
        assert (out.reshape(vector.ROWS, -1) == wanted.astype(np.int32)).all()


def test_bytes_are_looked_up_in_the_whole_table():
    random = np.random.default_rng(0)
    table, codes = random.integers(0, 256, 256, dtype=np.uint8), np.arange(256, dtype=np.uint8)
    out = np.zeros(256, np.uint8)
    vector.lookup(table, 0, codes, 0, out, 0, 256)
    assert (out == table).all()
