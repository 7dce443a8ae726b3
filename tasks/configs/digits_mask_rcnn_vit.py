"""Mask R-CNN with the ViT of `digits_upernet_vit`: trained for its backbone alone, which the segmenter starts from."""

_base_ = "digits_mask_rcnn.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="mmseg.VisionTransformer",
        img_size=(128, 128),
        patch_size=8,
        embed_dims=96,
        num_layers=6,
        num_heads=4,
        mlp_ratio=3,
        out_indices=(1, 3, 5),
        drop_path_rate=0.05,
        with_cls_token=True,
        norm_cfg=dict(type="LN", eps=1e-6),
    ),
    neck=dict(
        _delete_=True,
        type="mmseg.MultiLevelNeck",
        in_channels=[96, 96, 96],
        out_channels=48,
        scales=[2, 1, 0.5],
    ),
)
