"""vitq: the reproducibility benchmark suite for quantized vision transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitq.saved import load as load

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """What the package offers is imported when it is asked for: `import vitq` needs no torch."""
    if name == "load":
        from vitq.saved import load

        return load
    raise AttributeError(f"module 'vitq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
