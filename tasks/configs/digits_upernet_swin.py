"""UPerNet on the embedded digit scenes (128x128; paper and ten digits): a Swin deepest where windows hold digits.

A segmenter's backbone has to tell digits apart by itself, as no head looks at regions: with the two blocks a level of
`digits_mask_rcnn` it does not learn to. Windows of 8 divide every map here; those of the detector do not.
"""

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type="SwinTransformer",
        pretrain_img_size=128,
        embed_dims=48,
        depths=[2, 6, 1],
        num_heads=[3, 6, 12],
        strides=(4, 2, 2),
        window_size=8,
        mlp_ratio=2,
        drop_path_rate=0.05,
        out_indices=(0, 1, 2),
    ),
    decode_head=dict(
        type="UPerHead",
        in_channels=[48, 96, 192],
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
