"""The integer-only engine: every logit as the integer form's, and fused kernels as their formulas at extremes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import i_vit_models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from i_vit_models import SIZE, batches, calibrated, swin, vit
from torch import nn

from vitq.errors import UnsupportedError
from vitq.methods.i_vit.dyadic import Dyadic, requantize
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Requantize
from vitq.methods.i_vit.integer import integer
from vitq.methods.i_vit.linear import IntegerLinear
from vitq.methods.i_vit.sums import IntegerAdd

pytest.importorskip("numba")

import numba

from vitq.benchmarks.runtimes import numba_cache
from vitq.benchmarks.runtimes.i_vit import parts, tiles, vector
from vitq.benchmarks.runtimes.numba_integer import runtime

CPU = torch.device("cpu")
ODD = {"embed_dim": 48, "num_heads": 3, "num_classes": 70}
FORMS = ["8 bits", "16 bits", "polynomial"]


def padded() -> nn.Module:
    """Windows that do not fill the map, so that some of their tokens are padding."""
    return swin(window_size=3)


def masked_near() -> nn.Module:
    """Logits so large that a masked token's, 100 below, is one of the row: its exponential is not 0."""
    model = swin()
    with torch.no_grad():
        for block in (block for stage in model.layers for block in stage.blocks):
            block.attn.qkv.weight.mul_(30)
    return model


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


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("make", [vit, swin, padded, masked_near], ids=["vit", "swin", "padded windows", "near masks"])
@pytest.mark.parametrize("forms", [Forms(), Forms(softmax_bits=16), Forms(softmax="polynomial")], ids=FORMS)
def test_windows_and_wide_probabilities_give_the_integer_forms_logits(make, forms, batch):
    network = integer(calibrated(make(), forms), SIZE)
    images = batches(1)[0][0][:batch]
    engine = runtime.compile(network, images, threads=2, device=CPU)
    for given_images in (images, 40 * images, torch.zeros_like(images), -images):
        assert torch.equal(engine(given_images), network(given_images))


@pytest.mark.parametrize("forms", [Forms(softmax="log_int"), Forms(layernorm="l1")])
def test_what_has_no_kernel_is_refused(forms):
    network = integer(calibrated(vit(), forms), SIZE)
    with pytest.raises(UnsupportedError):
        runtime.compile(network, batches(1)[0][0], threads=1, device=CPU)


def test_models_that_are_not_served_are_named():
    assert not runtime.unsupported(integer(calibrated(swin(), Forms()), SIZE), "integer-only:torch")
    backbone = integer(calibrated(vit(num_classes=0), Forms()), SIZE)
    assert "backbones" in str(runtime.unsupported(backbone, "integer-only:torch"))
    assert runtime.unsupported(vit(), "integer-only:torch")
    assert runtime.unsupported(integer(calibrated(vit(), Forms()), SIZE), "fp32")


def test_operators_are_counted_where_they_run():
    network = integer(calibrated(vit(depth=2), Forms(softmax_bits=16)), SIZE)
    engine = runtime.compile(network, batches(1)[0][0][:1], threads=1, device=CPU)
    told = engine.executed()
    assert told["Linear"] == {"int8": 10}
    assert told["MatMul"] == {"int8": 2, "int16": 2}
    assert told["Softmax"] == {"int16": 2}
    engine.regions = [region for region in engine.regions if region.run.__name__ != "attention"]
    engine(batches(1)[0][0][:1])
    assert "MatMul" not in engine.executed()


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
    scale, out = parts.scale_of(number, 64), parts.aligned(vector.ROWS * 64, np.uint8)
    given_codes = torch.tensor(codes, dtype=torch.int32)
    wanted = requantize(given_codes, Dyadic(number.multiplier, number.shift), 8, rounding)
    tiles.requantize8(given_codes.numpy(), 0, scale, 0, out, 0, 64)
    assert (out[:64].astype(int) - 128 == wanted.numpy()).all()
    nothing, acc = np.zeros(256, np.uint8), np.zeros(vector.ROWS * 64, np.int32)
    tiles.tile_codes(nothing, 0, 0, nothing.view(np.int8), 0, given_codes.numpy(), 0, scale, 0, out, 0, 64, 1, 64, acc)
    assert (out.reshape(vector.ROWS, 64).astype(int) - 128 == wanted.numpy()).all()


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(-(2**23), 2**23 - 1), min_size=64, max_size=64),
    st.lists(st.floats(2.0**-40, 2.0**12), min_size=2, max_size=2),
    st.integers(-(2**20), 2**20),
)
def test_the_sum_with_the_stream_is_exact_in_32_bits_and_beyond(stream, ratios, bias):
    node = IntegerAdd.__new__(IntegerAdd)
    nn.Module.__init__(node)
    node.bits = 24
    node.left, node.right = (Requantize(torch.tensor(ratio, dtype=torch.float64), 30, "nearest") for ratio in ratios)
    layer = IntegerLinear.__new__(IntegerLinear)
    nn.Module.__init__(layer)
    layer.weight, layer.bias = torch.full((64, 4), 3, dtype=torch.int8), torch.full((64,), bias, dtype=torch.int32)
    product = parts.product_of(layer)
    join, out = parts.join_of(node, product, layer), np.tile(np.array(stream, np.int32), vector.ROWS)
    codes, acc = np.full(4 * vector.ROWS, 255, np.uint8), np.zeros(vector.ROWS * 64, np.int32)
    tiles.tile_join(codes, 0, 4, product.weight, 0, product.start, 0, join, 0, out, 0, 64, 1, 64, acc)
    wanted = node(torch.full((64,), bias + 4 * 3 * 127, dtype=torch.int32), torch.tensor(stream, dtype=torch.int32))
    assert (out.reshape(vector.ROWS, 64) == wanted.numpy()).all()


@numba.njit
def tile_of_any_cpu(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps):
    vector.any_tile4(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps)


@numba.njit
def words_tile_of_any_cpu(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps):
    vector.any_words_tile4(a, a0, lda, b, b0, start, s0, c, c0, ldc, steps)


@pytest.mark.parametrize("tile", [tiles.words_tile, words_tile_of_any_cpu], ids=["this CPU", "any CPU"])
def test_a_tile_of_int16_is_the_product_of_its_operands(tile):
    random, steps = np.random.default_rng(0), 7
    left = random.integers(0, 2**15, (vector.ROWS, 2 * steps), dtype=np.int16)
    right = random.integers(-128, 128, (2 * steps, vector.COLUMNS), dtype=np.int16)
    packed = np.ascontiguousarray(right.reshape(steps, 2, -1).transpose(0, 2, 1)).reshape(-1)
    out, start = np.zeros(vector.ROWS * vector.COLUMNS, np.int32), np.arange(vector.COLUMNS, dtype=np.int32)
    operands = left.reshape(-1).view(np.uint8), 0, 4 * steps, packed.view(np.int8), 0
    tile(*operands, start, 0, out, 0, vector.COLUMNS, steps)
    wanted = left.astype(np.int64) @ right.astype(np.int64) + start
    assert (out.reshape(vector.ROWS, -1) == wanted).all()


@pytest.mark.parametrize("tile", [tiles.tile, tile_of_any_cpu], ids=["this CPU", "any CPU"])
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


PLAIN = """
import numpy as np
from vitq.benchmarks.runtimes.i_vit import tiles, vector
assert not vector.VNNI and not vector.VBMI and "plain" in vector.INSTRUCTIONS
random = np.random.default_rng(0)
left, right = random.integers(0, 256, (6, 8), np.uint8), random.integers(-128, 128, (8, 64), np.int8)
packed = np.ascontiguousarray(right.reshape(2, 4, 64).transpose(0, 2, 1)).reshape(-1)
out, start = np.zeros(384, np.int32), np.zeros(64, np.int32)
tiles.tile(left.reshape(-1), 0, 8, packed, 0, start, 0, out, 0, 64, 2)
assert (out.reshape(6, 64) == left.astype(int) @ right.astype(int)).all()
table, codes = np.arange(255, -1, -1).astype(np.uint8), np.arange(256, dtype=np.uint8)
vector.lookup(table, 0, codes, 0, codes, 0, 256)
assert (codes == table).all()
"""
WHOLE = """
from i_vit_models import *
from vitq.benchmarks.runtimes.numba_integer import runtime
from vitq.methods.i_vit.integer import integer
for make in (vit, swin):
    network, images = integer(calibrated(make(), Forms()), SIZE), batches(1)[0][0][:2]
    engine = runtime.compile(network, images, threads=1, device=torch.device("cpu"))
    assert "plain" in engine.instructions and torch.equal(engine(images), network(images))
"""


def on_any_cpu(code: str, folder: Path) -> None:
    """Run code as on a CPU of the first x86-64, or of nothing that its kind has beyond the first of them."""
    words = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(folder)}
    where = os.pathsep.join([str(Path(i_vit_models.__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | words | {"PYTHONPATH": where})


def test_a_cpu_without_vector_products_and_tables_has_kernels_of_its_own(tmp_path):
    on_any_cpu(PLAIN, tmp_path)


@pytest.mark.long
def test_the_engine_gives_the_same_logits_on_any_cpu(tmp_path):
    on_any_cpu(WHOLE, tmp_path)


LEAF = """
from vitq.benchmarks.runtimes.numba_cache import kernel
@kernel()
def leaf(x):
    return x + NUMBER
"""
ROOT = """
from kernels_of_a_test.leaf import leaf
from vitq.benchmarks.runtimes.numba_cache import kernel
@kernel()
def root(x):
    return leaf(x)
"""


def test_a_kernel_is_compiled_again_when_one_that_it_calls_changes(tmp_path):
    package = tmp_path / "kernels_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "root.py").write_text(ROOT)
    ask = "from kernels_of_a_test.root import root; print(root(1), sum(root.stats.cache_hits.values()))"
    found = []
    for number in (1, 1, 2):
        (package / "leaf.py").write_text(LEAF.replace("NUMBER", str(number)))
        # Python takes its own compiled file for that of a source that changed within the same second
        env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        env |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run([sys.executable, "-c", ask], check=True, env=env, capture_output=True, text=True)
        found.append(done.stdout.split())
    assert found == [["2", "0"], ["2", "1"], ["3", "0"]]


def test_the_digest_is_that_of_every_source(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    before = numba_cache.digest_of(tmp_path)
    (tmp_path / "b.py").write_text("")
    assert numba_cache.digest_of(tmp_path) != before
