"""What BinaryViT says of its work: its training curve, latent weights, and channel means before and after the shift."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vitq import details


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Epoch(BaseModel):
    """A row of the training curve; the task's metrics join it under their own names in epochs that are validated.

    `loss` is the epoch's mean, `lr` that of its last step, `flipped_share` the share of binary weights whose sign at
    the end of the epoch differs from its start.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, float]
    epoch: float
    loss: float
    lr: float
    flipped_share: float

    @property
    def metrics(self) -> dict[str, float]:
        """The task's metrics, empty in an epoch that was not validated."""
        return dict(self.__pydantic_extra__)


class Histogram(_Table):
    """All latent weights, (W - row mean) / row scale: shares in equal bins over [-reach, reach].

    What lies beyond counts in the end bins; `near_boundary` is the share within 0.1 of the boundary between -1 and +1.
    """

    reach: float
    shares: list[float]
    near_boundary: float


class Weights(_Table):
    """Latent weights before and after training."""

    before: Histogram
    after: Histogram


class Spread(_Table):
    """Standard deviation over channels of an input's channel means, before and after the shift."""

    before: float
    after: float


class Widest(_Table):
    """The binarized input whose channel means differ most, by its path, and its channel means (the first 512)."""

    input: str
    before: list[float]
    after: list[float]


class ActivationMeans(_Table):
    """Channel means of every binarized input over one calibration batch; `spread` is by the input's path."""

    spread: dict[str, Spread]
    widest: Widest


class Details(details.Details):
    """The training curve (empty for 0 epochs), latent weights, signs that flipped an epoch, and channel means."""

    training: list[Epoch]
    weights: Weights
    flipped_share: list[float]
    activation_means: ActivationMeans
