"""Make a baseline for `vitq gate` of a finished run.

    python -m vitq.benchmarks.gate.make_baseline smoke --results results/smoke --out NEW
    --perturb 4     also run chaotic cells again, four times at most, and keep how far they move
    -k EXPR         of these cells alone
    --also FOLDER   count results of another machine to that spread
    --from OLD      keep, of the baseline that this one replaces, the reasons of changes that were accepted into it,
                    and the spread of cells whose accuracy is still the same

Cost: without `--perturb` seconds. With it one more run of the suite, and up to N - 1 of those cells of which the first
flipped more than 1 in 50 samples.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vitq.benchmarks.gate.accepted import Acceptance, folder_of_baseline, read_accepted, write_accepted
from vitq.benchmarks.gate.baseline import write_baseline
from vitq.benchmarks.gate.matching import read_baseline
from vitq.benchmarks.gate.perturb import PERTURBATIONS, Run, measured_spread, perturbed_runs
from vitq.benchmarks.gate.policy import Policy
from vitq.benchmarks.gate.spread import FILE, Spread, joined, read_spread
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.suite import load_suite
from vitq.benchmarks.run.store import read_rows
from vitq.errors import BadInputError
from vitq.rows import Row


def main(words: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one line where something cannot be read or written."""
    asked = _parser().parse_args(words)
    try:
        make(
            asked.suite, asked.results, asked.out, asked.perturb, asked.also, asked.work, asked.k,
            latency=asked.latency, replaced=asked.replaced,
        )  # fmt: skip
    except (BadInputError, OSError) as error:
        print(f"make_baseline: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make_baseline", description="Make a baseline for `vitq gate`.")
    parser.add_argument("suite")
    parser.add_argument("--results", type=Path, required=True, help="results folder of a finished run")
    parser.add_argument("--out", type=Path, required=True, help="new folder of the baseline")
    most = len(PERTURBATIONS)
    parser.add_argument("--perturb", type=int, default=0, choices=range(most + 1), help="perturbed runs at most")
    parser.add_argument("-k", help="only cells whose id matches are run again")
    parser.add_argument("--also", type=Path, action="append", default=[], help="results of another machine")
    kept = "baseline whose reasons and spread are kept"
    parser.add_argument("--from", type=Path, dest="replaced", metavar="OLD", help=kept)
    parser.add_argument("--work", type=Path, help="keep perturbed runs here, to resume; default a temporary folder")
    parser.add_argument("--latency", action="store_true", help="keep latency, for machines of one CPU or GPU model")
    return parser


def make(
    suite: str,
    results: Path,
    out: Path,
    perturb: int,
    also: Sequence[Path],
    work: Path | None,
    k: str | None = None,
    *,
    latency: bool,
    replaced: Path | None = None,
) -> None:
    """Write records, outcomes, the measured spread and a README to `out`; raises BadInputError, and OSError.

    Why bars of the `replaced` baseline are where they are (`accepted`) stays in the new one, and so does its spread, of
    the cells whose accuracy is still the same.
    """
    load_suite(suite)
    accepted = [] if replaced is None else _accepted_into(replaced)
    write_baseline(results, out, latency=latency)
    if accepted:
        write_accepted(out, accepted)
    rows = read_baseline(out)
    chosen = [row for row in rows if k is None or picker(k)(row.cell.id)]
    kept = None if replaced is None else read_spread(replaced, read_baseline(replaced))
    runs = {f"elsewhere-{i}": Run(read_rows(path), "another machine") for i, path in enumerate(also, 1)}
    with tempfile.TemporaryDirectory() as folder:
        if perturb:
            runs |= perturbed_runs(suite, chosen, work or Path(folder), perturb)
        spread = measured_spread(rows, runs)
    if kept is not None:
        spread = joined(kept, spread, rows)
    if spread.cells:
        (out / FILE).write_text(spread.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(readme(suite, rows, spread, k), encoding="utf-8")
    reasons = f", reasons of {len(accepted)} accepted changes kept" if accepted else ""
    print(f"{out}: {len(rows)} cells, spread of {len(_wide(spread))} measured{reasons}, {_size(out) / 1e6:.2f} MB")


def _accepted_into(baseline: Path) -> list[Acceptance]:
    """What was accepted into a baseline, its folder's or its records'; BadInputError for what is none."""
    if not (folder_of_baseline(baseline) / "records.jsonl").is_file():
        raise BadInputError(f"{baseline} holds no baseline: name by --from the one that is replaced")
    return read_accepted(baseline)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _wide(spread: Spread) -> list[tuple[str, str, float, int]]:
    """Cells whose spread is known, the widest first: cell, metric, points, runs."""
    found = [
        (cell, metric, *of)
        for cell, metrics in spread.cells.items()
        for metric in metrics
        if (of := spread.of(cell, metric))
    ]
    return sorted(found, key=lambda row: -row[2])


def readme(suite: str, rows: Sequence[Row], spread: Spread, k: str | None = None) -> str:
    """What the baseline is, how it was made, and the reason of what it allows."""
    done = [row for row in rows if row.status == "done"]
    failed = [f"- `{row.cell.id}`: {row.status}, not compared" for row in rows if row.status != "done"]
    torch = ", ".join(sorted({f"torch {row.provenance.packages.get('torch', 'unknown')}" for row in done}))
    head = _HEAD.format(suite=suite, done=len(done), cells=len(rows), torch=torch, stderrs=Policy().stderrs)
    runs = [f"- `{name}`: {how}" for name, how in spread.runs.items()]
    table = ["| cell | metric | runs | deviation of a difference, points |", "|---|---|---|---|"]
    table += [f"| `{cell}` | {metric} | {n} | {points:.2f} |" for cell, metric, points, n in _wide(spread)]
    if len(table) == 2:
        table = ["No cell flipped more than 1 in 50 samples: none was run more often."]
    some = [f"Run again, the last time, were the cells that `-k '{k}'` picks.", ""] if k else []
    measured = ["## Spread", "", *some, *runs, "", *table] if spread.cells else ["No spread was measured."]
    failed += [""] if failed else []
    return "\n".join([head, *failed, *measured, ""])


_HEAD = """# Baseline of `{suite}`

{done} of {cells} cells finished, {torch}. Made of a finished run, and made again after every change that is meant to
change results, by

    vitq run {suite} --results results/{suite}
    python -m vitq.benchmarks.gate.make_baseline {suite} --results results/{suite} --out NEW --perturb 4 --from OLD

`--from` the baseline that is replaced keeps the reasons of changes that were accepted into it, and its spread.

**Tolerance 0, and why.** On one machine with the same versions and threads every result is the same to the last bit, so
nothing may differ. Elsewhere sums are rounded otherwise, samples flip, and a recipe that generates or trains may end
points away; so the difference may also be {stderrs:g} standard errors, made of the paired error of the samples that
flipped and of the spread below. Three, since of a hundred cells five lie beyond two by chance. Size and operations must
be equal. Latency is left out: smoke times fake quantization, which says what an evaluation costs.
"""

if __name__ == "__main__":
    sys.exit(main())
