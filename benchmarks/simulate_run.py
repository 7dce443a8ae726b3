"""What the driver of a large run costs: thousands of made cells on many workers, some of which die.

`python -m vitq.benchmarks.simulate_run --workers 64 --cells 5000 --deaths 0.1` runs cells that only wait, with the
runner, the store and the executor of a real run, and prints what a cell cost the driver, how its memory grew, and what
became of the cells whose workers died. `--executor local` does the same without Ray.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line, simulate and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--executor", choices=["local", "ray"], default="ray")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=0.05, help="that a cell waits")
    parser.add_argument("--deaths", type=float, default=0.0, help="share of attempts in which the worker dies")
    asked = parser.parse_args(words)
    from vitq.benchmarks.run.simulation import executor_of, simulate  # each cell's process runs this file again

    with tempfile.TemporaryDirectory() as name:
        executor = executor_of(asked.executor, asked.workers, asked.seconds, asked.deaths)
        print(simulate(executor, asked.cells, Path(name)))


if __name__ == "__main__":
    main()
