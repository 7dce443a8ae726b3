"""Failed records that no worker made: of a cell whose workers died, and of one that could not be begun."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timezone

from vitq.benchmarks.run.messages import Order
from vitq.record import Identity, Name, Record, in_order, key_of, kind_of


def lost(order: Order, told: Collection[str], deaths: Sequence[str]) -> Record:
    """A failed record of the first wanted measurement that dead workers had not told of.

    `told` are the keys of those that they had; `deaths` says what became of each worker.
    """
    own = order.identities.own
    names = [name for name in in_order(own) if name in order.wanted or not order.wanted]
    left = [name for name in names if key_of(own[name]) not in told]
    name = next(iter(left), names[-1] if names else next(iter(own)))
    return failed(order, name, _said(deaths))


def _said(deaths: Sequence[str]) -> str:
    if len(deaths) == 1:
        return deaths[0]
    each = "; ".join(f"{number}. {how}" for number, how in enumerate(deaths, start=1))
    return f"its worker died {len(deaths)} times: {each}"


def failed(order: Order, name: Name, error: str) -> Record:
    """A failed record of one of a cell's measurements, with its reason in a line."""
    identity: Identity = order.identities.own[name]
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Record(
        kind=kind_of(name),
        key=key_of(identity),
        identity=identity,
        cell=order.cell,
        status="failed",
        error=error,
        provenance=order.provenance.model_copy(update={"finished": now, "device": order.device}),
    )
