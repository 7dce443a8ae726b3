"""Cascade Mask R-CNN on Swin-B as its authors trained it."""

_base_ = ["cascade_mask_rcnn_swin_tiny.py"]
model = dict(
    backbone=dict(embed_dims=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32]),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
