"""Mask R-CNN with the Swin of `digits_upernet_swin`: trained for its backbone alone, where the segmenter starts."""

_base_ = "digits_mask_rcnn.py"
model = dict(
    backbone=dict(embed_dims=48, depths=[2, 6, 1], num_heads=[3, 6, 12], window_size=8, mlp_ratio=2),
    neck=dict(in_channels=[48, 96, 192]),
)
