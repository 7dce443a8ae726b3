"""What a metric is made of, sample by sample, so that it can be computed again on any of the samples.

`Right` for a share of the samples (top-1), `Matches` for average precision, `Overlaps` for mIoU. Reports read them: of
the packages, they need numpy alone.
"""

from vitq.outcomes.file import FOLDER, Outcome, Outcomes, Resampled, packed, read, samples_sha256
from vitq.outcomes.matches import Matches
from vitq.outcomes.overlaps import Overlaps
from vitq.outcomes.resampling import deviation, two_sided
from vitq.outcomes.right import Right

__all__ = [
    "FOLDER",
    "Matches",
    "Outcome",
    "Outcomes",
    "Overlaps",
    "Resampled",
    "Right",
    "deviation",
    "packed",
    "read",
    "samples_sha256",
    "two_sided",
]
