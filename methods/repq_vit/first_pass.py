"""RepQ-ViT's first pass: one batch fixes all grids in forward order, each on inputs that are quantized already.

A layer that runs several times in one pass (an RPN's over the levels of a pyramid) is calibrated on all of its inputs:
it passes them through until the last, which fixes its grid. The released detection code fixes it at the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.architectures.roles import Roles
from vitq.methods.toolkit.calibration import first_batch, saw_nothing
from vitq.methods.toolkit.modules import named_quantizers, set_mode
from vitq.methods.toolkit.quantizers import Quantizer
from vitq.methods.toolkit.unreached import leave_out, say, within
from vitq.subject import Batch, Subject

_WEIGHT = "weight_quantizer"


def first_pass(subject: Subject, roles: Roles, shared: Literal["all", "first"]) -> list[str]:
    """Fix every grid of the part by the first calibration batch; returns the quantizers that saw nothing, left out.

    Only what stands outside of the transformer may see nothing, as a head does where nothing is proposed: its input
    stays in floating point. MethodInputError where a quantizer within it does, or names the one that ran last.
    """
    part, batch = roles.model, first_batch(subject)
    known = named_quantizers(part)
    calls = _calls(subject, batch, known) if shared == "all" and _may_share(roles) else Counter()
    set_mode(part, "calibrate")
    with _fixed_at_last_use(known, calls):
        subject.forward(subject.model, batch)
    return _finish(part, roles, known)


def _may_share(roles: Roles) -> bool:
    """Whether there is anything beside the transformer, whose own layers run once."""
    return roles.whole != ""


def _calls(subject: Subject, batch: Batch, known: dict[str, Quantizer]) -> Counter[Quantizer]:
    """How often each quantizer of activations runs in one pass, nothing being quantized."""
    set_mode(subject.part, "off")
    found: Counter[Quantizer] = Counter()
    hooks = [
        quantizer.register_forward_hook(lambda module, _, __: found.update([module]))
        for path, quantizer in known.items()
        if not path.endswith(_WEIGHT)
    ]
    subject.forward(subject.model, batch)
    for hook in hooks:
        hook.remove()
    return found


@contextmanager
def _fixed_at_last_use(quantizers: dict[str, Quantizer], calls: Counter[Quantizer]) -> Iterator[None]:
    """Within it each quantizer is on once it has run as often as `calls` says, once where it says nothing.

    A MethodInputError names the quantizer that ran last.
    """
    paths = {quantizer: path for path, quantizer in quantizers.items()}
    at: list[str] = []
    left = Counter({quantizer: max(1, calls[quantizer]) for quantizer in paths})

    def enter(quantizer: Quantizer, _: tuple[Tensor, ...]) -> None:
        at[:] = [paths[quantizer]]
        left[quantizer] -= 1
        if quantizer.mode != "on":
            quantizer.mode = "observe" if left[quantizer] > 0 else "calibrate"

    def leave(quantizer: Quantizer, _: tuple[Tensor, ...], __: Tensor) -> None:
        if quantizer.mode == "calibrate":
            quantizer.mode = "on"

    hooks = [hook for q in paths for hook in (q.register_forward_pre_hook(enter), q.register_forward_hook(leave))]
    try:
        yield
    except MethodInputError as error:
        raise MethodInputError(f"{at[0]}: {error}" if at else str(error)) from error
    finally:
        for hook in hooks:
            hook.remove()


def _finish(part: nn.Module, roles: Roles, known: dict[str, Quantizer]) -> list[str]:
    """Fix what ran less often than it was counted, and weights of layers that never ran; the inputs of these go."""
    unreached = []
    for path, quantizer in known.items():
        if quantizer.mode == "observe":
            quantizer.fit()
        elif quantizer.mode == "calibrate":
            if within(path, roles):
                raise saw_nothing(path)
            if not path.endswith(_WEIGHT):
                unreached.append(path)
                continue
            quantizer.observe(part.get_submodule(path.rpartition(".")[0]).weight)  # type: ignore[arg-type]
            quantizer.fit()
        quantizer.mode = "on"
    leave_out(part, unreached)
    say(unreached)
    return unreached
