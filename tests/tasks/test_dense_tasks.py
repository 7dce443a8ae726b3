"""Detection and segmentation as tasks: as mm itself predicts, 100 % of the truth, what is told of what is missing."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from safetensors.torch import save_file

from vitq import mm
from vitq.datasets.digit_scene_data import EVALUATION_BATCH
from vitq.errors import MethodInputError
from vitq.subject import silent
from vitq.tasks.average_precision import Found, average_precision
from vitq.tasks.base import Data, LoadedModel, Places
from vitq.tasks.dense import scenes_of
from vitq.tasks.registry import load

ABSENT = mm.why_absent()
needs_mm = pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
DETECTION, SEGMENTATION = load("detection"), load("segmentation")


def opened(task: str, limit: int = 4) -> tuple[LoadedModel, Data]:
    of = load(task)
    name, data = {
        "detection": ("digits_mask_rcnn", "digit-scenes"),
        "segmentation": ("digits_upernet_vit", "digit-scenes-maps"),
    }[task]
    loaded = of.load_model(name, Places())
    spec = {"images": 2, "batch": 2, "train_batch": 2}
    return loaded, of.open_data(data, loaded, Places(), limit=limit, seed=0, calibration=spec)


@needs_mm
def test_a_detector_predicts_as_mmdet_does() -> None:
    from mmdet.structures import DetDataSample

    loaded, data = opened("detection")
    batch = next(data.validation())
    samples = [
        DetDataSample(
            metainfo={"img_shape": (128, 128), "ori_shape": (128, 128), "scale_factor": (1.0, 1.0),
                      "pad_shape": (128, 128), "batch_input_shape": (128, 128)}
        )
        for _ in batch
    ]  # fmt: skip
    with torch.no_grad():
        ours = DETECTION.forward(loaded.model, batch).found
        theirs = loaded.model.predict(torch.stack([scene.image for scene in batch]), samples, rescale=True)
    for one, sample in zip(ours, theirs, strict=True):
        assert torch.equal(one["boxes"], sample.pred_instances.bboxes)
        assert torch.equal(one["scores"], sample.pred_instances.scores)
        assert torch.equal(one["masks"], sample.pred_instances.masks)


@needs_mm
def test_a_segmenter_predicts_as_mmsegmentation_does() -> None:
    loaded, data = opened("segmentation")
    batch = next(data.validation())
    images = torch.stack([scene.image for scene in batch])
    meta = {"ori_shape": (128, 128), "img_shape": (128, 128), "pad_shape": (128, 128), "padding_size": [0, 0, 0, 0]}
    with torch.no_grad():
        ours = SEGMENTATION.labels(loaded.model, batch)
        theirs = loaded.model.inference(images, [meta] * len(batch)).argmax(1)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@needs_mm
def test_windows_are_averaged_as_mmsegmentation_averages_them() -> None:
    loaded, data = opened("segmentation")
    batch, model = next(data.validation())[:2], loaded.model
    images = torch.stack([scene.image for scene in batch])
    model.test_cfg.update({"mode": "slide", "crop_size": (96, 96), "stride": (64, 64)})
    meta = [{"ori_shape": (128, 128), "img_shape": (128, 128)}] * 2
    with torch.no_grad():
        ours, theirs = SEGMENTATION.forward(model, batch), model.slide_inference(images, meta)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@needs_mm
def test_the_truth_itself_has_an_average_precision_of_one_hundred() -> None:
    _, data = opened("detection", limit=24)
    truth = data.truth()
    found = []
    for batch in data.validation():
        for scene in batch:
            things, kept = scene.things, ~scene.things.crowd
            runs = [_runs(mask) for mask in things.masks[kept].numpy()]
            ones = torch.ones(int(kept.sum())).double().numpy()
            found.append(
                Found(scene.image_id, things.boxes[kept].double().numpy(), ones, things.labels[kept].numpy(), runs)
            )
    measured = average_precision(truth, found)
    assert measured["box_ap"].value == pytest.approx(100, abs=1e-9)
    assert measured["mask_ap"].value == pytest.approx(100, abs=1e-9)
    assert measured["box_ap"].stderr == pytest.approx(0, abs=1e-9)


def _runs(mask):
    import numpy as np
    from faster_coco_eval.core import mask as masks

    return masks.encode(np.asfortranarray(mask.astype(np.uint8)))


@needs_mm
def test_metrics_of_the_packaged_models_are_their_cards() -> None:
    for task in ("detection", "segmentation"):
        loaded, data = opened(task, limit=EVALUATION_BATCH)
        measured = load(task).evaluate(loaded.model, data, silent)
        main = "box_ap" if task == "detection" else "miou"
        known = next(iter(loaded.expected.values()))[main]
        assert measured[main].n == EVALUATION_BATCH
        assert abs(measured[main].value - known) < 5 * measured[main].stderr


@needs_mm
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_losses_have_gradients_and_need_what_is_known(task: str) -> None:
    loaded, data = opened(task)
    of, batch = load(task), next(data.calibration())
    output = of.forward(loaded.model, batch)
    once, again = of.loss(output, batch), of.loss(output, batch)
    assert torch.equal(once, again)
    once.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in loaded.model.backbone.parameters())
    assert float(of.distance(output, output)) == 0
    with pytest.raises(MethodInputError, match="generated"):
        of.loss(output, scenes_of(torch.zeros(2, 3, 128, 128)))


@needs_mm
def test_pictures_are_pngs_of_the_first_images() -> None:
    for task in ("detection", "segmentation"):
        loaded, data = opened(task)
        made = load(task).pictures(loaded.model, loaded.model, data)
        assert list(made) == [f"predictions {word} {i}" for i in (1, 2, 3) for word in ("before", "after")]
        assert all(png.startswith(b"\x89PNG") for png in made.values())


@needs_mm
def test_an_image_with_nothing_in_it_finds_nothing(tmp_path) -> None:
    model = DETECTION.build_model("digits_mask_rcnn")
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.bias.copy_(torch.tensor([-50.0] * 10 + [50.0]))
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    _, data = opened("detection")
    measured = DETECTION.evaluate(model, data, silent)
    assert measured["box_ap"].value == 0


def test_what_is_missing_is_told(monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "mmdet" else find(name, *a))
    assert DETECTION.unsupported() == "mmdet not installed: pip install 'vitq[mm]'"
    assert load("classification").unsupported() is None


@needs_mm
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_backbone_taken_out_and_put_back_changes_nothing(task: str) -> None:
    loaded, data = opened(task)
    batch, of = next(data.validation()), load(task)
    before = dict(loaded.model.named_modules())
    part = of.compilable(loaded.model, batch)
    with torch.inference_mode():
        whole, wanted = part.whole(part.module)(batch), of.forward(loaded.model, batch)
        flat = part.module(part.tensor)
    assert part.part == "backbone"
    assert flat.shape[0] == len(batch)
    assert of.digest(whole) == of.digest(wanted)
    assert dict(loaded.model.named_modules()) == before


@needs_mm
def test_the_backbone_of_a_segmenter_that_reads_windows_is_given_a_window() -> None:
    loaded, _ = opened("segmentation")
    loaded.model.test_cfg.update(mode="slide", crop_size=(128, 128), stride=(64, 64))
    batch = scenes_of(torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(0)))
    part = SEGMENTATION.compilable(loaded.model, batch)
    with torch.inference_mode():
        assert part.tensor.shape[2:] == (128, 128)
        assert torch.equal(part.whole(part.module)(batch), SEGMENTATION.forward(loaded.model, batch))
