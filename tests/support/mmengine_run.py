"""A small model trained by mmengine's own runner, for the checkpoint that it leaves: `python mmengine_run.py FOLDER`.

A process of its own, since a runner sets how processes start, the seeds and the logging of the one that it is in.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset


class Two(Dataset[tuple[Tensor, Tensor]]):
    """Two pairs of numbers."""

    metainfo: ClassVar = {"classes": ("a", "b"), "palette": [(1, 2, 3), (4, 5, 6)]}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.full((2,), float(index)), torch.zeros(2)


class Small(BaseModel):  # type: ignore[misc]
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor, y: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        return {"loss": (self.fc(x) - y).square().mean()}


def train(folder: Path) -> None:
    """Leave what mmengine saves after two epochs, `epoch_2.pth`; it holds the average and the weights themselves."""
    data = {"batch_size": 1, "num_workers": 0, "collate_fn": {"type": "default_collate"}}
    schedules = [{"type": "LinearLR", "start_factor": 0.1, "end": 2}, {"type": "CosineAnnealingLR", "T_max": 2}]
    runner = Runner(
        model=Small(), work_dir=str(folder), log_level="ERROR", train_cfg={"by_epoch": True, "max_epochs": 2},
        train_dataloader={**data, "dataset": Two(), "sampler": {"type": "DefaultSampler", "shuffle": False}},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.1}}, param_scheduler=schedules,
        custom_hooks=[{"type": "EMAHook"}], default_hooks={"logger": {"type": "LoggerHook", "interval": 1}},
    )  # fmt: skip
    runner.train()


if __name__ == "__main__":
    train(Path(sys.argv[1]))
