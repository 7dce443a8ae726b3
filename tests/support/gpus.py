"""GPUs in tests: marks for those that need real ones, and a recorder that stands in for torch's CUDA calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def needs_gpus(count: int = 1) -> Any:
    """A mark: the test runs on a machine with that many GPUs, and says why not elsewhere."""
    found = torch.cuda.device_count()
    return pytest.mark.skipif(found < count, reason=f"needs {count} CUDA GPU{'s' * (count > 1)}, there are {found}")


class FakeGpus:
    """Two GPUs that torch seems to have: notes each call and its device, and has a peak and a capability for each."""

    def __init__(self, patch: pytest.MonkeyPatch, capability: tuple[int, int] = (8, 0)) -> None:
        self.calls: list[tuple[str, torch.device]] = []
        for name, answer in (
            ("synchronize", lambda at: None),
            ("set_device", lambda at: None),
            ("reset_peak_memory_stats", lambda at: None),
            ("max_memory_allocated", lambda at: 1_000_000 * (1 + (at.index or 0))),
            ("get_device_capability", lambda at: capability),
        ):
            patch.setattr(torch.cuda, name, self._noting(name, answer))
        patch.setattr(torch.cuda, "init", lambda: None)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        # the emulation that a card without bfloat16 answers with
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)

    def _noting(self, name: str, answer: Any) -> Any:
        def call(device: torch.device) -> Any:  # the device is required, as torch would take the current one
            self.calls.append((name, torch.device(device)))
            return answer(torch.device(device))

        return call
