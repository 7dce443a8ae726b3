"""What `vitq` itself offers, and that importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vitq


def test_importing_vitq_imports_neither_torch_nor_rooms() -> None:
    heavy = "import sys, vitq; dir(vitq); print([m for m in sys.modules if m in ('torch', 'numpy') or 'vitq.' in m])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_listed_without_torch() -> None:
    """By the modules that are imported: seconds depend on the machine."""
    ask = (
        "import sys, vitq; vitq.list_methods(); vitq.list_models('deit*'); vitq.list_datasets(); vitq.list_runtimes();"
        "vitq.list_suites(); vitq.method_card('pmq').options; vitq.BadInputError; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_offers_what_it_names_and_nothing_else() -> None:
    assert {"quantize", "load", "evaluate", "sensitivity", "list_methods", "method_card"} <= set(vitq.__all__)
    assert set(vitq.__all__) <= set(dir(vitq))
    for name in vitq.__all__:
        assert getattr(vitq, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vitq.nonsense


def test_names_by_pattern() -> None:
    assert vitq.list_methods("psaq*") == ["psaq_vit", "psaq_vit_v2"]
    assert vitq.list_datasets("imagenet*") == ["imagenet-1k", "imagenet-proxy"]
    assert "digits_vit" in vitq.list_models("digits*")
    assert vitq.list_suites("smo*") == ["smoke"]
    assert "onnxruntime" in vitq.list_runtimes("onnx*")
    assert vitq.list_methods("nothing*") == []
    named = vitq.list_models("vit_small_patch14_dinov2*", timm=True)
    assert "vit_small_patch14_dinov2.lvd142m" in named
    assert vitq.list_models("vit_small_patch14_dinov2*") == []


def test_a_card_by_name() -> None:
    card = vitq.method_card("repq_vit")
    assert (card.fidelity, card.options["softmax"].default) == ("released-code", "log_sqrt2")
    with pytest.raises(vitq.BadInputError, match="did you mean 'repq_vit'"):
        vitq.method_card("repq")


def test_errors_are_ordinary_exceptions() -> None:
    assert issubclass(vitq.BadInputError, Exception)
    assert issubclass(vitq.UnsupportedError, Exception)
