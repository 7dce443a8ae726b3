"""UPerNet on the embedded digit scenes (128x128; paper and ten digits): a small ViT and a neck of three scales."""

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type="VisionTransformer",
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
    neck=dict(type="MultiLevelNeck", in_channels=[96, 96, 96], out_channels=64, scales=[2, 1, 0.5]),
    decode_head=dict(
        type="UPerHead",
        in_channels=[64, 64, 64],
        in_index=[0, 1, 2],
        pool_scales=(1, 2, 3),
        channels=48,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, class_weight=[0.3] + [1.0] * 10),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
