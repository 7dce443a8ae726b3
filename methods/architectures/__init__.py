"""Architecture adapters: what a method may know of a model, a module a family of architectures.

`timm_vit` and `timm_swin` serve timm's ViT, DeiT and Swin, also inside mmsegmentation's `TIMMBackbone`; `mm_swin`
serves the Swin of mmdet and mmsegmentation, `mm_vit` mmsegmentation's ViT and DeiT. `explicit.families` lists them.
"""
