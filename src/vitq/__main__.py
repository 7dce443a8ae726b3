"""`python -m vitq`, the same as the `vitq` command."""

import sys
from pathlib import Path

# `-m` puts the current folder on the path; in a checkout its folder `datasets` would hide the package of that name,
# which timm's readers import
sys.path[:] = [entry for entry in sys.path if not (Path(entry or ".") / "methods" / "registry.py").is_file()]

from vitq.entry import main  # noqa: E402

main()
