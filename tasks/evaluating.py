"""How every task evaluates: batch by batch, so that several workers may share the batches, then all of it at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from vitq.datasets.base import Data
from vitq.subject import Batch, Progress
from vitq.tasks.base import Measured


class Evaluating(ABC):
    """A task's `evaluate`, made of what it says of one batch and of all of them."""

    @abstractmethod
    def judge(self, model: nn.Module, batch: Batch) -> Any:
        """What the metrics are made of, a sequence or array with an entry a sample of one batch; picklable."""

    @abstractmethod
    def metrics(self, data: Data, judged: Sequence[Any]) -> dict[str, Measured]:
        """The metrics of what `judge` said of all validation batches, in their order."""

    def evaluate(self, model: nn.Module, data: Data, progress: Progress) -> dict[str, Measured]:
        """The task's metrics on the validation data; see `metrics`."""
        return self.metrics(data, self.judge_all(model, data.validation(), progress, data.n_validation))

    def judge_all(self, model: nn.Module, batches: Iterable[Batch], progress: Progress, total: int) -> list[Any]:
        """What `judge` says of each of these batches, which hold `total` samples, in eval mode."""
        was_training = model.training
        model.eval()
        judged: list[Any] = []
        seen = 0
        with torch.no_grad():
            for batch in batches:
                judged.append(self.judge(model, batch))
                seen += len(judged[-1])
                progress("evaluate", seen, total)
        model.train(was_training)
        return judged
