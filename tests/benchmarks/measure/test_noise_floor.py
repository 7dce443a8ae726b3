"""What noise of one unit in the last place does to a model, and what is within it."""

from __future__ import annotations

import torch
from torch import nn

from vitq.benchmarks.measure.noise_floor import Nearness, nearness, noise_floor


class Rounding(nn.Module):
    """A layer whose output lies right between two codes, as chance has it in a deep model."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.layer.weight.data = torch.eye(4)

    def forward(self, x):
        return (self.layer(x) + 0.5).floor()


def test_noise_moves_what_lies_between_two_codes_and_nothing_else():
    model = Rounding().eval()
    between, clear = torch.full((8, 4), 1.5), torch.full((8, 4), 1.8)
    assert noise_floor(model, [clear], model(clear)).difference == 0
    found = noise_floor(model, [between], model(between))
    assert 0.1 < found.difference < 1
    assert found == noise_floor(model, [between], model(between))  # the draws are the same every time
    assert not model.layer._forward_hooks


def test_an_output_is_near_as_far_as_it_differs_and_as_top1_agrees():
    ours = torch.tensor([[3.0, 4.0], [4.0, 3.0]])
    assert nearness(ours, ours) == Nearness(0, 2, 2)
    moved = nearness(ours + torch.tensor([[2.0, 0.0], [0.0, 0.0]]), ours)
    assert moved.agree == 1
    assert abs(moved.difference - (4 / 50) ** 0.5) < 1e-6
    assert nearness(ours * torch.nan, ours).difference == float("inf")


def test_twice_the_floor_is_within_it_and_more_is_not():
    floor = Nearness(0.1, 95, 100)
    assert Nearness(0.2, 89, 100).within(floor)
    assert not Nearness(0.21, 100, 100).within(floor)
    assert not Nearness(0.1, 88, 100).within(floor)
    assert not nearness(torch.full((2, 2), torch.nan), torch.ones(2, 2)).within(floor)
