"""Importing this has both OpenMMLab libraries' classes registered: what a server of worker processes imports once."""

from contextlib import suppress

from vitq.errors import UnsupportedError
from vitq.tasks import mm_models

with suppress(UnsupportedError):  # without mm each cell tells it by itself
    mm_models.register()
