"""Mask R-CNN on the embedded digit scenes (128x128, 10 classes): a small Swin of window 7 and three levels of FPN.

No feature map (32, 16, 8) is a multiple of the window, so that every block pads, as on real photographs.
"""

model = dict(
    type="MaskRCNN",
    data_preprocessor=dict(type="DetDataPreprocessor", mean=[127.5] * 3, std=[127.5] * 3, pad_size_divisor=32),
    backbone=dict(
        type="SwinTransformer",
        embed_dims=40,
        depths=[2, 2, 2],
        num_heads=[2, 4, 8],
        strides=(4, 2, 2),
        window_size=7,
        mlp_ratio=3,
        drop_path_rate=0.05,
        out_indices=(0, 1, 2),
        convert_weights=False,
    ),
    neck=dict(type="FPN", in_channels=[40, 80, 160], out_channels=48, num_outs=3),
    rpn_head=dict(
        type="RPNHead",
        in_channels=48,
        feat_channels=48,
        anchor_generator=dict(type="AnchorGenerator", scales=[5], ratios=[0.7, 1.2], strides=[4, 8, 16]),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=2),
            out_channels=48,
            featmap_strides=[4, 8],
            finest_scale=32,
        ),
        bbox_head=dict(
            type="Shared2FCBBoxHead",
            in_channels=48,
            fc_out_channels=112,
            roi_feat_size=7,
            num_classes=10,
            bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=True,
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=2),
            out_channels=48,
            featmap_strides=[4, 8],
            finest_scale=32,
        ),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=2,
            in_channels=48,
            conv_out_channels=48,
            num_classes=10,
            class_agnostic=True,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type="RandomSampler", num=128, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(nms_pre=300, max_per_img=100, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True,
                ignore_iof_thr=0.5,
            ),
            sampler=dict(type="RandomSampler", num=48, pos_fraction=0.35, neg_pos_ub=-1, add_gt_as_proposals=True),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=300, max_per_img=50, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=20, mask_thr_binary=0.5),
    ),
)
