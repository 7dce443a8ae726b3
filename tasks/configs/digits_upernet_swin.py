"""UPerNet on the embedded digit scenes (128x128; paper and ten digits): the Swin of `digits_mask_rcnn`."""

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type="SwinTransformer",
        pretrain_img_size=128,
        embed_dims=32,
        depths=[2, 2, 4],
        num_heads=[2, 4, 8],
        strides=(4, 2, 2),
        window_size=8,
        mlp_ratio=3,
        drop_path_rate=0.05,
        out_indices=(0, 1, 2),
    ),
    decode_head=dict(
        type="UPerHead",
        in_channels=[32, 64, 128],
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
