"""What a cell asks of the machine that runs it: CPUs, GPUs and memory, as words on the command line and as numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vitq.errors import BadInputError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]I?)?B?", re.IGNORECASE)


@dataclass(frozen=True)
class Asks:
    """CPUs and GPUs, of which a share may be asked for, and bytes of memory (0: as it comes)."""

    cpus: float = 1
    gpus: float = 0
    memory: int = 0

    def fit_on(self, cpus: float, gpus: float, memory: float) -> int:
        """How many cells that ask for this a machine with so much can hold at once."""
        counts = [int(cpus / self.cpus + 1e-9)]
        if self.gpus >= 1:
            counts.append(int(gpus // self.gpus))
        elif self.gpus:
            counts.append(int(gpus) * int(1 / self.gpus + 1e-9))
        if self.memory:
            counts.append(int(memory // self.memory))
        return min(counts)

    def __str__(self) -> str:
        return amounts(self.cpus, self.gpus, self.memory)


def amounts(cpus: float, gpus: float, memory: float) -> str:
    """CPUs, GPUs and bytes in words; what is 0 is left out, but for CPUs."""
    words = [f"{cpus:g} CPU{'' if cpus == 1 else 's'}"]
    words += [f"{gpus:g} GPU{'' if gpus == 1 else 's'}"] if gpus else []
    words += [f"{memory / 1e9:.1f} GB of memory"] if memory else []
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def asks_of(cpus: float | None, gpus: float | None, memory: str | None, threads: int | None, device: str) -> Asks:
    """What is asked for; by default a CPU a thread of the suite or site, and a GPU where cells compute on one.

    BadInputError for a number that is not above 0, for parts of more than one GPU, and for no GPU where one is needed.
    """
    wanted = float(threads or 1) if cpus is None else cpus
    cards = float(device != "cpu") if gpus is None else gpus
    if not 0 < wanted < 1e6:
        raise BadInputError(f"--cpus is {wanted:g}: give a number above 0, as 4")
    if not 0 <= cards < 1e6 or (cards > 1 and cards != int(cards)):
        raise BadInputError(f"--gpus is {cards:g}: give a whole number, or a share of one GPU, as 0.5")
    if device != "cpu" and cards == 0:
        raise BadInputError(f"--device {device} needs a GPU, or a share of one: leave --gpus out, or give 0.5")
    return Asks(wanted, cards, 0 if memory is None else _bytes(memory))


def _bytes(word: str) -> int:
    found = _MEMORY.fullmatch(word.strip())
    value = int(float(found[1]) * _UNITS[(found[2] or "").upper()]) if found else 0
    if value < 1:
        raise BadInputError(f"--memory is {word!r}: give bytes with a unit, as 4GB or 4GiB")
    return value
