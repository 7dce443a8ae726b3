"""OpenMMLab's libraries on current torch: whether they are installed, and operators where mmcv has none compiled.

Whoever imports `mmcv.ops`, `mmdet` or `mmseg` calls `prepare()` first.
"""

from vitq.mm.stack import MM, installed, prepare, why_absent

__all__ = ["MM", "installed", "prepare", "why_absent"]
