"""mmcv's operators by torchvision, against references in plain Python written from their definitions."""

from __future__ import annotations

import importlib
import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitq import mm
from vitq.errors import UnsupportedError
from vitq.mm.operators import OFFERED, Operators

pytestmark = pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent()))
Box = list[float]
Ops = Any


@pytest.fixture(scope="module")
def ops() -> Ops:
    mm.prepare()
    return pytest.importorskip("mmcv.ops")


def iou(a: Box, b: Box, offset: int) -> float:
    def area(box: Box) -> float:
        return (box[2] - box[0] + offset) * (box[3] - box[1] + offset)

    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    union = area(a) + area(b) - w * h
    return w * h / union if union else math.nan


def naive_nms(boxes: list[Box], scores: list[float], threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if not any(iou(boxes[j], boxes[i], offset) > threshold for j in kept):
            kept.append(i)
    return kept


def naive_softnms(
    boxes: list[Box], scores: list[float], threshold: float, sigma: float, least: float, method: str, offset: int
) -> tuple[list[int], list[float]]:
    """Boxes that wait stand in a row: the best changes places with the first, the last replaces one that falls out."""
    waiting, now, kept, at = list(range(len(boxes))), list(scores), [], []
    while waiting:
        best = max(range(len(waiting)), key=lambda p: (now[waiting[p]], -p))
        waiting[0], waiting[best] = waiting[best], waiting[0]
        i = waiting.pop(0)
        kept.append(i)
        at.append(now[i])
        place = 0
        while place < len(waiting):
            j = waiting[place]
            over = iou(boxes[i], boxes[j], offset)
            if method == "gaussian":
                now[j] *= math.exp(-over * over / sigma)
            elif over >= threshold:
                now[j] *= 0.0 if method == "naive" else 1 - over
            if now[j] < least:
                last = waiting.pop()
                if place < len(waiting):
                    waiting[place] = last
            else:
                place += 1
    return kept, at


corner = st.integers(0, 12).map(float)
side = st.integers(1, 8).map(float)
scored = st.integers(1, 8).map(lambda v: v / 8)
a_box = st.tuples(corner, corner, side, side).map(lambda t: [t[0], t[1], t[0] + t[2], t[1] + t[3]])
some_boxes = st.lists(st.tuples(a_box, scored), max_size=14)
"""Whole numbers and eighths: many ties of scores, and IoUs that are exact where they are compared."""


@settings(deadline=None, max_examples=150)
@given(some_boxes, st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.sampled_from([0, 1]))
def test_nms_is_the_naive_one(drawn: list[tuple[Box, float]], threshold: float, offset: int) -> None:
    boxes, scores = [box for box, _ in drawn], [score for _, score in drawn]
    close = any(abs(iou(a, b, offset) - threshold) < 1e-6 for a in boxes for b in boxes)
    if close and threshold:  # float32 and float64 may round to different sides
        threshold += 1e-3
    found = OFFERED["nms"](torch.tensor(boxes).view(-1, 4), torch.tensor(scores), threshold, offset)
    assert found.tolist() == naive_nms(boxes, scores, threshold, offset)


def test_nms_keeps_doubles_and_takes_halves() -> None:
    near = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0 + 1e-12]], dtype=torch.float64)
    assert OFFERED["nms"](near, torch.tensor([0.5, 0.5 + 1e-12], dtype=torch.float64), 0.5, 0).tolist() == [1]
    half = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 4], [8, 8, 9, 9]], dtype=torch.float16)
    assert OFFERED["nms"](half, torch.tensor([0.5, 0.7, 0.1], dtype=torch.float16), 0.5, 0).tolist() == [1, 2]


def test_the_offset_decides_where_boxes_just_overlap() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 2]]), torch.tensor([0.9, 0.8])
    assert OFFERED["nms"](boxes, scores, 0.6, 0).tolist() == [0, 1]  # 1 of 2 pixels
    assert OFFERED["nms"](boxes, scores, 0.6, 1).tolist() == [0]  # 4 of 6


@settings(deadline=None, max_examples=150)
@given(some_boxes, st.sampled_from(["naive", "linear", "gaussian"]), st.sampled_from([0, 1]), st.sampled_from([0, 0.2]))
def test_softnms_is_the_naive_one(drawn: list[tuple[Box, float]], method: str, offset: int, least: float) -> None:
    boxes, scores = [box for box, _ in drawn], [score for _, score in drawn]
    given_boxes = torch.tensor(boxes, dtype=torch.float64).view(-1, 4)
    dets = torch.full((len(boxes), 5), -1.0, dtype=torch.float64)
    number = ("naive", "linear", "gaussian").index(method)
    given_scores = torch.tensor(scores, dtype=torch.float64)
    inds = OFFERED["softnms"](given_boxes, given_scores, dets, 0.3, 0.5, least, number, offset)
    kept, at = naive_softnms(boxes, scores, 0.3, 0.5, least, method, offset)
    assert inds.tolist() == kept
    assert torch.equal(dets[: len(kept), :4], given_boxes[kept])
    torch.testing.assert_close(dets[: len(kept), 4], torch.tensor(at, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (dets[len(kept) :] == -1).all()
    assert given_scores.tolist() == scores


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_mmcv_calls_them_by_its_own_functions(ops: Ops, method: str) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 1, 11, 11], [20.0, 20, 30, 30], [0.0, 0, 10, 9]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    dets, inds = ops.soft_nms(boxes, scores, iou_threshold=0.3, sigma=0.5, min_score=1e-3, method=method)
    kept, at = naive_softnms(boxes.tolist(), scores.tolist(), 0.3, 0.5, 1e-3, method, 0)
    assert inds.tolist() == kept
    torch.testing.assert_close(dets, torch.cat([boxes[kept], torch.tensor(at).unsqueeze(1)], dim=1))
    dets, inds = ops.nms(boxes, scores, 0.5, max_num=1)
    assert inds.tolist() == [0]
    assert torch.equal(dets[:, 4], scores[:1])
    spread, kept_of_classes = ops.batched_nms(
        boxes, scores, torch.tensor([0, 1, 0, 0]), {"type": "nms", "iou_threshold": 0.5}
    )
    assert kept_of_classes.tolist() == [0, 1, 2]
    assert spread.shape == (3, 5)


def test_empty_boxes(ops: Ops) -> None:
    none = torch.zeros(0, 4)
    assert ops.nms(none, torch.zeros(0), 0.5)[1].tolist() == []
    dets, inds = ops.soft_nms(none, torch.zeros(0))
    assert dets.shape == (0, 5)
    assert inds.tolist() == []


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """The value [C] at a point; 0 more than a pixel outside, held at the border within it."""
    _, h, w = image.shape
    if y < -1 or y > h or x < -1 or x > w:
        return image.new_zeros(len(image))
    y, x = min(max(y, 0.0), h - 1), min(max(x, 0.0), w - 1)
    top, left = min(int(y), h - 1), min(int(x), w - 1)
    bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
    dy, dx = y - top, x - left
    upper = image[:, top, left] * (1 - dx) + image[:, top, right] * dx
    lower = image[:, bottom, left] * (1 - dx) + image[:, bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def naive_roi_align(
    images: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Mask R-CNN's RoIAlign: the mean of bilinear samples in each bin; differentiable in the images."""
    out = []
    for number, x1, y1, x2, y2 in rois.tolist():
        shift = 0.5 if aligned else 0.0
        left, top, right, bottom = (v * scale - shift for v in (x1, y1, x2, y2))
        w, h = right - left, bottom - top
        if not aligned:
            w, h = max(w, 1.0), max(h, 1.0)
        bin_h, bin_w = h / size[0], w / size[1]
        ny, nx = (ratio, ratio) if ratio > 0 else (max(math.ceil(bin_h), 0), max(math.ceil(bin_w), 0))
        for i in range(size[0]):
            for j in range(size[1]):
                points = [
                    (top + (i + (a + 0.5) / ny) * bin_h, left + (j + (b + 0.5) / nx) * bin_w)
                    for a in range(ny)
                    for b in range(nx)
                ]
                found = [bilinear(images[int(number)], y, x) for y, x in points]
                out.append(torch.stack(found).sum(0) / max(len(found), 1))
    return torch.stack(out).view(len(rois), *size, -1).permute(0, 3, 1, 2)


ROIS = [
    [0, 1.0, 2.0, 9.0, 11.0],  # inside
    [1, 0.0, 0.0, 15.0, 11.0],  # a whole image
    [1, -6.0, -4.0, 5.0, 6.0],  # out at the top left
    [0, 10.0, 8.0, 40.0, 30.0],  # out at the bottom right
    [1, 4.2, 4.3, 4.6, 4.9],  # smaller than a pixel
    [0, 100.0, 100.0, 120.0, 120.0],  # wholly outside
]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize(("scale", "size"), [(1.0, (3, 2)), (0.5, (2, 4))])
def test_roi_align_and_its_gradient_are_the_naive_ones(
    ops: Ops, aligned: bool, ratio: int, scale: float, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    rois = torch.tensor(ROIS, dtype=torch.float64)
    given, naive = images.clone().requires_grad_(), images.clone().requires_grad_()
    found = ops.roi_align(given, rois, size, scale, ratio, "avg", aligned)
    wanted = naive_roi_align(naive, rois, size, scale, ratio, aligned)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(given.grad, naive.grad, rtol=0, atol=1e-9)


def test_no_rois_and_rois_of_another_format(ops: Ops) -> None:
    images = torch.randn(1, 3, 8, 8, requires_grad=True)
    none = ops.roi_align(images, torch.zeros(0, 5), (7, 7), 1.0, 0, "avg", True)
    assert none.shape == (0, 3, 7, 7)
    none.sum().backward()
    assert images.grad is not None
    assert not images.grad.any()
    layer = ops.RoIAlign((2, 2), 1.0, 0)
    half = layer(images.detach().bfloat16().float(), torch.tensor([[0, 1.0, 1, 5, 5]], dtype=torch.float64))
    assert half.dtype == torch.float32


def test_what_is_not_there_is_named_in_one_line(ops: Ops) -> None:
    module = Operators("mmcv._ext")
    assert hasattr(module, "deform_conv_forward")
    assert not hasattr(module, "__path__")
    with pytest.raises(UnsupportedError, match="no operator deform_conv_forward") as error:
        module.deform_conv_forward(1, 2)
    assert "\n" not in str(error.value)
    with pytest.raises(UnsupportedError, match="RoIAlign by maximum"):
        ops.roi_align(torch.zeros(1, 1, 4, 4), torch.tensor([[0, 0.0, 0, 2, 2]]), (2, 2), 1.0, 0, "max", True)


def test_a_config_that_needs_another_operator_says_so(ops: Ops) -> None:
    layer = ops.DeformConv2d(4, 4, 3, padding=1)
    with pytest.raises(UnsupportedError, match="no operator deform_conv_forward"):
        layer(torch.randn(1, 4, 8, 8), torch.randn(1, 18, 8, 8))


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_stand_in_looks_like_a_module(ops: Ops) -> None:
    spec = importlib.util.find_spec("mmcv._ext")
    assert spec is not None
    assert spec.name == "mmcv._ext"
    assert importlib.import_module("mmcv.utils.ext_loader").check_ops_exist()


def test_every_package_imports_in_silence() -> None:
    done = run(
        "from vitq import mm; mm.prepare(); mm.prepare()\n"
        "import mmcv.ops, mmdet.apis, mmdet.datasets, mmdet.models, mmseg.datasets, mmseg.models\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_a_compiled_mmcv_is_used() -> None:
    done = run(
        "import sys, types, importlib.util, importlib.machinery as m\n"
        "from vitq.mm import stack\n"
        "spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: m.ModuleSpec(n, None) if n == 'mmcv._ext' else spec(n, *a)\n"
        "stack.prepare(); assert 'mmcv._ext' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("which", [("mmdet",), ("mmseg", "mmcv")])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, which: tuple[str, ...]) -> None:
    real: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n in which else real(n, *a))
    said = mm.why_absent()
    assert said is not None
    assert all(name in said for name in which)
    assert "vitq[mm]" in said
    with pytest.raises(UnsupportedError, match="not installed"):
        mm.prepare()
