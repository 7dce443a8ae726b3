"""`python -m vitq`, the same as the `vitq` command."""

import sys
from pathlib import Path


def _leave_checkout() -> None:
    """Take a checkout that `-m` was started in off the path, and forget the `vitq` found there.

    Its folder `datasets` would hide the package of that name, which timm's readers import, and its folder `vitq` has
    none of the rooms that an installed one has.
    """
    root = Path(__file__).resolve().parent.parent
    if (root / "pyproject.toml").is_file():
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != root]
        sys.modules.pop("vitq", None)


_leave_checkout()

from vitq.benchmarks.cli import main  # noqa: E402

main()
