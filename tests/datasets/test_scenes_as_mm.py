"""Scenes of real images are what mmdet's and mmsegmentation's own pipelines make of the same files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitq import mm
from vitq.datasets.ade20k import ADE20K
from vitq.datasets.base import Data
from vitq.datasets.calibration import Calibration
from vitq.datasets.coco import COCO_2017
from vitq.datasets.decoding import decode
from vitq.datasets.scene_classes import ADE20K_CLASSES, COCO_CATEGORIES
from vitq.datasets.scene_pixels import fitted, resized
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.datasets.scenes import Scene

pytestmark = [
    pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent())),
    pytest.mark.slow,
]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""As mm's configs write them, of pixels in 0..255."""
UNIT = tuple(each / 255 for each in MEAN), tuple(each / 255 for each in STD)
COCO = ScenePreprocessing((3, 800, 1333), *UNIT, scale=(1333, 800), divisor=32)  # type: ignore[arg-type]
ADE = ScenePreprocessing((3, 512, 512), *UNIT, scale=(2048, 512))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def coco(shared: Path) -> Path:
    return _there(shared / "data" / "coco")


@pytest.fixture(scope="module")
def ade(shared: Path) -> Path:
    return _there(shared / "data" / "ADEChallengeData2016")


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"real images are not at {folder}")
    return folder


def opened_coco(root: Path, **spec: object) -> Data:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return COCO_2017.open(
            COCO, Calibration.parse(spec), {"coco-2017": root}, limit=None, seed=0, workers=None
        )  # fmt: skip


def transform(name: str, theirs: Any) -> Any:
    """The class of a transform, the library's own or mmcv's: names mean other things once a model was built."""
    from mmcv import transforms as mmcvs

    return getattr(theirs, name, None) or getattr(mmcvs, name)


def mmdet_pipeline(root: Path, split: str, *more: dict[str, Any]) -> Any:
    mm.prepare()
    from mmdet.datasets import CocoDataset, transforms

    steps = [
        {"type": "LoadImageFromFile"},
        *more,
        {"type": "Resize", "scale": (1333, 800), "keep_ratio": True},
        {"type": "PackDetInputs"},
    ]
    return CocoDataset(
        data_root=str(root), ann_file=f"annotations/instances_{split}.json", data_prefix={"img": f"{split}/"},
        pipeline=[{**step, "type": transform(step["type"], transforms)} for step in steps], test_mode=True,
    )  # fmt: skip


def normalized_by_mm(inputs: torch.Tensor) -> torch.Tensor:
    """BGR uint8 as mm reads it, through the data preprocessor of mmdet's configs."""
    from mmengine.model import ImgDataPreprocessor

    change = ImgDataPreprocessor(mean=list(MEAN), std=list(STD), bgr_to_rgb=True, pad_size_divisor=1)
    found: torch.Tensor = change({"inputs": [inputs]})["inputs"][0]
    return found


def same_pixels(scene: Scene, inputs: torch.Tensor, how: ScenePreprocessing, file: Path) -> None:
    """Bit for bit before they are normalized, and within rounding after."""
    pixels = np.asarray(decode(file))
    ours = resized(pixels, fitted(scene.original, how.scale))
    assert np.array_equal(ours, inputs.numpy()[::-1].transpose(1, 2, 0))
    assert torch.allclose(scene.image, normalized_by_mm(inputs), atol=2e-6, rtol=0)
    assert scene.image.shape == inputs.shape


def test_every_image_of_coco_val_is_mmdets(coco: Path) -> None:
    data, theirs = opened_coco(coco, images=1, list="first", split="val2017"), mmdet_pipeline(coco, "val2017")
    assert data.n_validation == len(theirs)
    for batch, packed in zip(data.validation(), theirs, strict=True):
        scene = batch[0]
        assert len(batch) == 1
        assert scene.image_id == packed["data_samples"].img_id
        assert scene.original == packed["data_samples"].ori_shape
        same_pixels(scene, packed["inputs"], COCO, coco / scene.name)


def test_things_of_coco_train_are_mmdets_to_the_last_bit(coco: Path) -> None:
    theirs = mmdet_pipeline(coco, "train2017", {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True})
    data = opened_coco(coco, images=24, batch=5, list="first", split="train2017")
    scenes = [scene for batch in data.calibration() for scene in batch]
    assert sum(int(scene.things.crowd.sum()) for scene in scenes if scene.things) > 0
    for scene, packed in zip(scenes, theirs, strict=False):
        assert scene.things is not None
        sample = packed["data_samples"]
        wanted, crowd = sample.gt_instances, sample.ignored_instances
        for instances, ours in ((wanted, ~scene.things.crowd), (crowd, scene.things.crowd)):
            assert torch.equal(scene.things.boxes[ours], instances.bboxes.tensor)
            assert torch.equal(scene.things.labels[ours], instances.labels)
            assert np.array_equal(scene.things.masks[ours].numpy(), instances.masks.masks.astype(bool))


def test_pairs_of_ade20k_are_mmsegs(ade: Path) -> None:
    mm.prepare()
    from mmseg.datasets import ADE20KDataset, transforms

    steps: list[dict[str, Any]] = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": (2048, 512), "keep_ratio": True},
        {"type": "LoadAnnotations", "reduce_zero_label": True},
        {"type": "PackSegInputs"},
    ]
    theirs = ADE20KDataset(
        data_root=str(ade), data_prefix={"img_path": "images/validation", "seg_map_path": "annotations/validation"},
        pipeline=[{**step, "type": transform(step["type"], transforms)} for step in steps], test_mode=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = ADE20K.open(
            ADE, Calibration(images=1, list="first", split="validation"), {"ade20k": ade}, limit=None, seed=0,
            workers=None,
        )  # fmt: skip
    for batch, packed in zip(data.validation(), theirs, strict=True):
        scene = batch[0]
        same_pixels(scene, packed["inputs"], ADE, ade / scene.name)
        assert scene.label_map is not None
        assert torch.equal(scene.label_map.long(), packed["data_samples"].gt_sem_seg.data[0].long())


def test_classes_are_called_and_counted_as_mm_does() -> None:
    mm.prepare()
    from mmdet.datasets import CocoDataset
    from mmseg.datasets import ADE20KDataset

    assert tuple(COCO_CATEGORIES.values()) == CocoDataset.METAINFO["classes"]
    assert list(COCO_CATEGORIES) == sorted(COCO_CATEGORIES)
    assert tuple(name.strip() for name in ADE20KDataset.METAINFO["classes"]) == ADE20K_CLASSES
