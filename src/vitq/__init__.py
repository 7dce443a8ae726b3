"""vitq: the reproducibility benchmark suite for quantized vision transformers.

    import vitq

    small = vitq.quantize(model, "repq_vit", bits="W4A4", data="photographs")
    print(small.size, small.layers())
    small.save("small.safetensors")

Everything below is imported when it is asked for: `import vitq` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitq.api.evaluating import Evaluation as Evaluation
    from vitq.api.evaluating import evaluate as evaluate
    from vitq.api.listing import list_datasets as list_datasets
    from vitq.api.listing import list_methods as list_methods
    from vitq.api.listing import list_models as list_models
    from vitq.api.listing import list_runtimes as list_runtimes
    from vitq.api.listing import list_suites as list_suites
    from vitq.api.listing import method_card as method_card
    from vitq.api.loading import load as load
    from vitq.api.quantized import Exported as Exported
    from vitq.api.quantized import QuantizedModel as QuantizedModel
    from vitq.api.quantizing import quantize as quantize
    from vitq.api.sensitivities import Sensitivity as Sensitivity
    from vitq.api.sensitivities import sensitivity as sensitivity
    from vitq.api.tables import Table as Table
    from vitq.errors import BadInputError as BadInputError
    from vitq.errors import UnsupportedError as UnsupportedError

__version__ = "0.1.0"
_PLACES = {
    "quantize": "vitq.api.quantizing",
    "load": "vitq.api.loading",
    "evaluate": "vitq.api.evaluating",
    "sensitivity": "vitq.api.sensitivities",
    "list_methods": "vitq.api.listing",
    "list_models": "vitq.api.listing",
    "list_datasets": "vitq.api.listing",
    "list_runtimes": "vitq.api.listing",
    "list_suites": "vitq.api.listing",
    "method_card": "vitq.api.listing",
    "QuantizedModel": "vitq.api.quantized",
    "Exported": "vitq.api.quantized",
    "Evaluation": "vitq.api.evaluating",
    "Sensitivity": "vitq.api.sensitivities",
    "Table": "vitq.api.tables",
    "BadInputError": "vitq.errors",
    "UnsupportedError": "vitq.errors",
}
"""What the package offers, and the module that it comes from."""
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    """What the package offers is imported when it is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module 'vitq' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "annotations", "import_module"})
