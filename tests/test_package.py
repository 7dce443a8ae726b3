"""What `vitq` itself offers, and that importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vitq


def test_importing_vitq_imports_neither_torch_nor_rooms() -> None:
    heavy = "import sys, vitq; print([m for m in sys.modules if m in ('torch', 'numpy') or m.startswith('vitq.')])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_offers_what_it_names_and_nothing_else() -> None:
    assert "load" in vitq.__all__
    assert set(vitq.__all__) <= set(dir(vitq))
    assert vitq.load.__module__ == "vitq.saved"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vitq.nonsense
