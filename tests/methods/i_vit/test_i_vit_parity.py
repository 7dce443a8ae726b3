"""I-ViT's release arithmetic against the authors' code on small whole models: every range, code and gradient."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest
import small_models
import torch
import torch.nn.functional as F
from small_models import Kind, same
from torch import Tensor

from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.forms import Forms
from vitq.methods.i_vit.grids import Output, Scaled
from vitq.methods.i_vit.network import Network

KINDS: list[Kind] = ["vit", "swin"]
BLOCK = {
    "qact1": "norm1", "attn.qact1": "attn.qkv", "attn.qact_attn1": "attn.qk", "qact2": "add1", "qact3": "norm2",
    "qact4": "add2", "mlp.qact_gelu": "mlp.fc1", "mlp.qact1": "mlp.act", "mlp.qact2": "mlp.fc2",
    "attn.int_softmax": "attn.softmax", "attn.log_int_softmax": "attn.softmax",
}  # fmt: skip
BLOCKS: dict[Kind, dict[str, str]] = {
    "vit": BLOCK | {"attn.qact2": "attn.av", "attn.qact3": "attn.proj"},
    "swin": BLOCK
    | {"attn.qact_table": "attn.bias_add", "attn.qact2": "attn.bias_add", "attn.qact3": "attn.av"}
    | {"attn.qact4": "attn.proj"},
}
REST: dict[Kind, dict[str, str]] = {
    "vit": {
        "qact_input": "input", "patch_embed.qact": "patch_embed.proj", "qact_pos": "position_add",
        "qact1": "position_add", "qact2": "norm",
    },
    "swin": {
        "qact_input": "input", "patch_embed.qact_before_norm": "patch_embed.proj", "patch_embed.qact":
        "patch_embed.norm", "qact1": "regrid", "qact2": "norm", "qact3": "head.global_pool",
        "layers.0.downsample.qact1": "layers.1.downsample.norm",
        "layers.0.downsample.qact2": "layers.1.downsample.reduction",
    },
}  # fmt: skip
CONSTANTS = ("qact_pos", "attn.qact_table")
"""Released nodes that quantize a learnt constant; here they are the `own` grid of the sum."""


def path(kind: Kind, node: str) -> str:
    """Where a node of the released code is here."""
    found = re.match(r"((?:layers\.\d+\.)?blocks\.\d+)\.(.*)", node)
    return f"{found[1]}.{BLOCKS[kind][found[2]]}" if found else REST[kind][node]


def output(network: Network, kind: Kind, node: str) -> Output:
    """The range and grid that belong to a node of the released code."""
    found = network.get_submodule(path(kind, node))
    grid = found.own if node.endswith(CONSTANTS) else found.out
    assert isinstance(grid, Output)
    return grid


class Ran(NamedTuple):
    """A calibrated network, what every module of it gave for images 8-11, and what the released code gave."""

    network: Network
    seen: dict[str, Scaled]
    logits: Tensor
    want: dict[str, Tensor]
    nodes: list[str]


_RAN: dict[Kind, Ran] = {}


@torch.no_grad()
def ran(kind: Kind) -> Ran:
    if kind in _RAN:
        return _RAN[kind]
    network, images = Network(small_models.model(kind), Forms("release")).eval(), small_models.images()
    outputs = [m for m in network.modules() if isinstance(m, Output)]
    for one in outputs:
        one.observing = True
    network(images[:4])
    network(images[4:8])
    for one in outputs:
        one.observing = False
    seen: dict[str, Scaled] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda m, _, y, name=name: seen.__setitem__(name, y))
    logits = network(images[8:12])
    want, metadata = small_models.read("i_vit_small_models.safetensors", f"{kind}.")
    _RAN[kind] = Ran(network, seen, logits, want, json.loads(metadata["nodes"]))
    return _RAN[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_small_model_is_the_one_the_released_code_ran(kind: Kind) -> None:
    with torch.no_grad():
        got = small_models.model(kind)(small_models.images()[8:12])
    torch.testing.assert_close(got, small_models.fp32_logits(kind), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_range_and_width_is_the_released_codes(kind: Kind) -> None:
    network, _, _, want, nodes = ran(kind)
    grids = [output(network, kind, node) for node in nodes]
    assert set(grids) == {m for m in network.modules() if isinstance(m, Output)}, "a range that the release lacks"
    assert [grid.width.bits for grid in grids] == want["bits"].tolist()
    got = torch.stack([torch.stack([grid.low, grid.high]) for grid in grids])
    torch.testing.assert_close(got, want["range"], rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.stack([grid.scale for grid in grids]), want["scale"], rtol=1e-6, atol=0)


def codes_of(run: Ran, kind: Kind, node: str) -> Tensor:
    """The first image's (or window's) codes in the released code's order."""
    where = path(kind, node)
    if node.endswith(CONSTANTS):
        grid = output(run.network, kind, node)
        constant = run.network.get_parameter(f"{where}.value").detach()
        return release.quantize(constant, grid.scale, grid.width.bits)
    value, scale = run.seen[where]
    codes = torch.round(value / scale)
    return codes.transpose(1, 2) if where.endswith(".av") else codes


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_and_logit_is_the_released_codes(kind: Kind) -> None:
    run = ran(kind)
    nodes = [name[len("codes.") :] for name in run.want if name.startswith("codes.")]
    assert len(nodes) == {"vit": 41, "swin": 64}[kind]
    for node in nodes:
        want = run.want[f"codes.{node}"].float()
        same(codes_of(run, kind, node).flatten()[: want.numel()], want, node)
    torch.testing.assert_close(run.logits, run.want["logits"], rtol=1e-6, atol=1e-7)


def parameter(name: str) -> str:
    """The path here of a parameter of the released code."""
    whole = {"cls_token": "tokens.token", "pos_embed": "position_add.value"}
    for old, new in (
        ("layers.0.downsample", "layers.1.downsample"),
        ("attn.relative_position_bias_table", "attn.bias_add.value"),
    ):
        name = name.replace(old, new)
    return whole.get(name, name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_step_has_the_released_codes_loss_and_gradients(kind: Kind) -> None:
    want, metadata = small_models.read("i_vit_small_models.safetensors", f"{kind}.")
    network = Network(small_models.model(kind), Forms("release")).train()
    logits = network(small_models.images()[:4])
    loss = F.cross_entropy(logits, want["train.labels"])
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logits.detach(), want["train.logits"], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(loss.detach(), want["train.loss"], rtol=1e-6, atol=0)
    got = {n.replace("head.fc.", "head."): p.grad for n, p in network.named_parameters()}
    assert {n for n, g in got.items() if g is None} == {parameter(n) for n in metadata["no_gradient"].split(",")}
    names = [name for name in want if name.startswith("gradient.")]
    assert len(names) == sum(g is not None for g in got.values())
    for name in names:
        gradient, released = got[parameter(name[len("gradient.") :])], want[name]
        assert gradient is not None
        ours = gradient.flatten()[: released.numel()]
        assert F.cosine_similarity(ours, released, dim=0) > 0.9999, name
        assert 0.999 < ours.norm() / released.norm() < 1.001, name
