"""I-ViT's operators in a graph: Shiftmax, ShiftGELU and I-LayerNorm, as `methods.i_vit.operators_paper` defines them.

Codes of 8 bits are uint8 with a zero point of 128; what the paper takes of numbers at most 0 is taken here of their
magnitude d = -I: I >> n is -((d + 2^n - 1) >> n).
"""

from __future__ import annotations

from vitq.benchmarks.runtimes.integer_graph import arithmetic as do
from vitq.benchmarks.runtimes.integer_graph import dyadic
from vitq.benchmarks.runtimes.integer_graph.graph import Graph, Value
from vitq.errors import UnsupportedError
from vitq.methods.i_vit import ablations
from vitq.methods.i_vit import operators_paper as paper
from vitq.methods.i_vit.gelu import IntegerGelu
from vitq.methods.i_vit.layernorm import IntegerLayerNorm
from vitq.methods.i_vit.softmax import IntegerSoftmax

RECIPROCAL_BITS = 60
"""I-LayerNorm's factor is floor(2^60 / root)."""


def shift_exp(g: Graph, distance: Value, one: int, shift: int) -> Value:
    """ShiftExp of -d for uint32 distances d >= 0: exp(-S * d) of scale S / 2^shift, uint32 where that holds it."""
    half = do.right(g, do.add(g, distance, 1), 1)
    sixteenth = do.right(g, do.add(g, distance, 15), 4)
    power = do.subtract(g, do.add(g, distance, half), sixteenth, low=0)  # (d+15)/16 <= d + (d+1)/2 from d = 0 on
    whole = do.divide(g, power, one)
    fraction = do.subtract(g, power, do.multiply(g, whole, one), low=0)
    fraction = Value(fraction.name, fraction.kind, fraction.shape, 0, min(fraction.high, one - 1))
    line = do.subtract_from(g, one, do.right(g, do.add(g, fraction, 1), 1))
    kind, widest = ("uint32", 31) if one << shift < 2**32 else ("uint64", paper.DIVISION_BITS)
    return do.right(g, do.left(g, g.cast(line, kind), shift), g.cast(do.at_most(g, whole, widest), kind))


def int_div(g: Graph, numerator: Value, denominator: Value, bits: int) -> Value:
    """IntDiv of uint64 0 <= a <= b: (floor(2^62 / b) * a) >> (62 - (bits - 1)), at most 2^(bits-1) - 1."""
    factor = do.quotient(g, 2**paper.DIVISION_BITS, do.at_least(g, denominator, 1))
    product = do.multiply(g, factor, numerator, bound=2**paper.DIVISION_BITS)  # a <= b
    return do.at_most(g, do.right(g, product, paper.DIVISION_BITS - (bits - 1)), 2 ** (bits - 1) - 1)


def softmax(g: Graph, node: IntegerSoftmax, logits: Value) -> Value:
    """Shiftmax of uint8 codes over the last dimension: probabilities of 8 bits, uint8 without a zero point."""
    if node.operator != ablations.SOFTMAX["shiftmax"] or node.bits != 8:
        raise UnsupportedError("the integer graph has Shiftmax to 8 bits, not its replacements")
    distance = g.cast(do.subtract(g, do.largest(g, logits), logits, low=0), "uint32")
    exponential = shift_exp(g, distance, int(node.constants()[0]), paper.SOFTMAX_SHIFT)
    summed = do.total(g, g.cast(exponential, "int32" if exponential.high * logits.shape[-1] < 2**31 else "int64"))
    return g.cast(int_div(g, g.cast(exponential, "uint64"), g.cast(summed, "uint64"), 8), "uint8")


def gelu(g: Graph, node: IntegerGelu, codes: Value) -> Value:
    """ShiftGELU of uint8 codes and its requantization to uint8 codes."""
    if node.operator != ablations.GELU["shift"] or node.out is None:
        raise UnsupportedError("the integer graph has ShiftGELU, not its replacement")
    one, shift = (int(c) for c in node.constants())
    x = g.cast(codes, "uint32")
    scaled = x
    for by in (1, 3, 4):
        scaled = do.add(g, scaled, do.right(g, x, by))
    zero = sum(dyadic.ZERO >> by for by in (0, 1, 3, 4))  # 128 is divisible by 16: I_p of the code 0
    top = do.largest(g, g.cast(scaled, "int32"))
    top = g.cast(do.at_least(g, top, zero), "uint32")
    numerator = g.cast(shift_exp(g, do.subtract(g, top, scaled, low=0), one, shift), "uint64")
    rest = g.cast(shift_exp(g, do.subtract(g, top, zero), one, shift), "uint64")
    sigmoid = g.cast(int_div(g, numerator, do.add(g, numerator, rest), 8), "int32")
    product = do.multiply(g, do.subtract(g, g.cast(codes, "int32"), dyadic.ZERO), sigmoid)
    return dyadic.to_codes(g, dyadic.of_value(product), node.out)


def int_sqrt(g: Graph, value: Value) -> Value:
    """The integer square root of int64 numbers [..., 1]: 10 Newton steps from 2^floor(bits / 2).

    bits >> 1 is at least j where the number is at least 2^(2j-1), so that the start is the largest such 2^j.
    """
    steps = range(1, 32)
    limits = g.constant([2 ** (2 * j - 1) for j in steps], "int64")
    powers, one = g.constant([2**j for j in steps], "int64"), g.constant(1, "int64")
    wide = (*value.shape[:-1], len(steps))
    above = g.node("GreaterOrEqual", [value.name, limits.name])
    starts = Value(
        g.node("Where", [above, powers.name, one.name]), "int64", wide, 1, 2 ** (value.high.bit_length() // 2)
    )
    root = do.largest(g, starts)
    for _ in range(paper.NEWTON_STEPS):
        root = do.at_least(g, do.divide(g, do.add(g, root, do.divide(g, value, root)), 2), 1)
    return root


def layer_norm(g: Graph, node: IntegerLayerNorm, x: Value) -> Value:
    """I-LayerNorm of int32 codes of up to 25 bits, with gamma, beta and the requantization to uint8 codes."""
    if node.operator != ablations.NORM["integer"] or node.bits != 8:
        raise UnsupportedError("the integer graph has I-LayerNorm to 8 bits")
    count = x.shape[-1]
    wide = g.cast(x, "int64")
    mean = do.floor_divide(g, do.add(g, do.multiply(g, do.total(g, wide), 2), count), 2 * count)
    difference = do.subtract(g, wide, mean)
    root = int_sqrt(g, do.total(g, do.square(g, difference)))
    factor = do.quotient(g, 2**RECIPROCAL_BITS, root)
    product = do.multiply(g, difference, factor, bound=2 ** (RECIPROCAL_BITS + 1))  # |I - mean| < root + 1 <= 2 root
    normal = do.floor_shift(g, product, RECIPROCAL_BITS - paper.NORM_BITS)
    return _affine(g, node, normal)


def _affine(g: Graph, node: IntegerLayerNorm, normal: Value) -> Value:
    """clamp((I * b + beta) >> c) and the zero point, as uint8."""
    shift = int(node.shift)
    half = (1 << shift) >> 1 if node.rounding == "nearest" else 0
    bias = [int(b) + half for b in node.bias.tolist()]
    moved = do.add(g, do.multiply(g, normal, [int(m) for m in node.multiplier.tolist()]), bias)
    if shift <= 54:  # room for the zero point before the shift, which spares a sum after it
        moved = do.at_least(g, do.add(g, moved, dyadic.ZERO << shift), 0)
        moved = g.cast(do.at_most(g, moved, (256 << shift) - 1), "uint64")
        return g.cast(do.right(g, moved, shift), "uint8")
    codes = do.at_most(g, do.at_least(g, do.floor_shift(g, moved, shift), -128), 127)
    return g.cast(do.add(g, codes, dyadic.ZERO), "uint8")
