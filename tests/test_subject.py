"""A scope names one module of a model: what is there is taken and put back, what is not is refused in one line."""

from __future__ import annotations

import pytest
from subjects import subject_of
from torch import nn

from vitq.errors import BadInputError
from vitq.subject import WHOLE, part_of, put_part


def detector() -> nn.Module:
    return nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "head": nn.Linear(2, 1)})


def test_the_whole_is_the_model_and_any_other_scope_its_module() -> None:
    model = detector()
    assert part_of(model, WHOLE) is model
    assert part_of(model, "backbone") is model.get_submodule("backbone")
    assert part_of(model, "backbone.0") is model.get_submodule("backbone.0")


def test_a_part_is_put_where_its_scope_says_and_nowhere_else() -> None:
    model, new = detector(), nn.Identity()
    head, first = model.get_submodule("head"), model.get_submodule("backbone.0")
    assert put_part(model, "backbone.1", new) is model
    assert model.get_submodule("backbone.1") is new
    assert model.get_submodule("backbone.0") is first
    assert model.get_submodule("head") is head
    assert put_part(model, WHOLE, new) is new


def test_a_subject_takes_and_puts_its_own_part() -> None:
    subject = subject_of(detector(), [], scope="backbone")
    model, new = subject.model, nn.Identity()
    assert subject.part is model.get_submodule("backbone")
    assert subject.put(new) is model is subject.model
    assert subject.part is new
    whole = subject_of(detector(), [])
    assert whole.put(new) is new is whole.model


@pytest.mark.parametrize("scope", ["backbon", "backbone.7", "", "head.weight", "backbone.0.forward", "."])
def test_a_scope_that_is_not_there_is_refused_in_one_line_with_those_that_are(scope: str) -> None:
    model = detector()
    before = list(model.named_modules())
    for ask in (
        lambda: part_of(model, scope),
        lambda: put_part(model, scope, nn.Identity()),
        lambda: subject_of(model, [], scope=scope).part,
    ):
        with pytest.raises(BadInputError, match="give a scope of model, backbone, head") as told:
            ask()
        assert "\n" not in str(told.value)
        assert repr(scope) in str(told.value)
    assert list(model.named_modules()) == before
