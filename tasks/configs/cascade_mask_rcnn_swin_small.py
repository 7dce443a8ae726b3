"""Cascade Mask R-CNN on Swin-S as its authors trained it."""

_base_ = ["cascade_mask_rcnn_swin_tiny.py"]
model = dict(backbone=dict(depths=[2, 2, 18, 2]))
