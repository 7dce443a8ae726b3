"""The gate: compare a run with an earlier one and decide whether anything regressed; what cannot be judged fails."""

from vitq.benchmarks.gate.matching import gate, read_baseline
from vitq.benchmarks.gate.policy import GateRow, Policy
from vitq.benchmarks.gate.result import GateResult

__all__ = ["GateResult", "GateRow", "Policy", "gate", "read_baseline"]
