"""A method as it was chosen, with its options, widths and scope: what cells and the Python interface both hand on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from vitq.benchmarks.measure.accounting import Account, account
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.methods.base import Method, Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import Card, all_cards
from vitq.methods.registry import load as load_method
from vitq.methods.toolkit import saving
from vitq.options import make_options
from vitq.subject import WHOLE, part_of, put_part
from vitq.tasks.base import Task


@dataclass(frozen=True)
class Chosen:
    """A method with all its options (as a record holds them), its widths, and the part of a model that it is for."""

    method: str
    options: Mapping[str, Any]
    bits: str
    scope: str = WHOLE

    @cached_property
    def module(self) -> Method:
        """The method itself; BadInputError for an unknown name."""
        return load_method(self.method)

    @cached_property
    def card(self) -> Card:
        """The method's card."""
        return all_cards()[self.method]

    @cached_property
    def values(self) -> Any:
        """The options as the method's own dataclass; MethodInputError for a value that it does not take."""
        return make_options(self.module.Options, self.options)

    @cached_property
    def widths(self) -> Bits:
        """The widths; ValueError for what is no width."""
        return Bits.parse(self.bits)

    def refused(self) -> str | None:
        """Why the method cannot do this, whatever the model; None where it can."""
        return self.module.unsupported(self.widths, self.values)

    def reads(self, what: str) -> bool:
        """Whether `calibration` or `training` data decide what it makes."""
        return self.card.reads_data(what, self.options)

    def prepared(self, model: nn.Module) -> nn.Module:
        """A copy of a model, perhaps on the meta device, with the method's layers in the part that is quantized."""
        copied = copy.deepcopy(model)
        part = self.module.prepare(part_of(copied, self.scope), self.widths, self.values)
        return put_part(copied, self.scope, part)

    def account(
        self, task: Task, model: nn.Module, how: Preprocessing | ScenePreprocessing, made: nn.Module | None = None
    ) -> Account:
        """Size and operations of an FP model on the meta device as the method has it; of `made` itself where given.

        A method whose widths depend on data is counted on the model that it made.
        """
        with torch.device("meta"):
            quantized = self.prepared(model) if made is None else made
            return account(model, quantized, task.example(how, 1, "meta"), self.widths, task.forward)

    def header(self, done: Quantized, architecture: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
        """The header of the quantized model's file; `architecture` as `saving.header_of` says."""
        return saving.header_of(
            method=self.method,
            options=dict(self.options),
            bits=self.bits,
            scope=self.scope,
            facts=done.facts,
            exec=done.exec,
            architecture=dict(architecture),
            identity=dict(identity),
        )
