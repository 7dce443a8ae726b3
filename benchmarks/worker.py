"""One cell from its order to its record, inside a worker process."""

from __future__ import annotations

import errno
import json
import random
import resource
import time
import traceback
import warnings
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch

from vitq.benchmarks.measure import Bench, quantize_and_measure
from vitq.benchmarks.order import Finished, Order, Send
from vitq.benchmarks.record import Record
from vitq.errors import BadInputError
from vitq.methods.base import MethodInputError, UnsupportedError


def work_on(order: Order, send: Send) -> Finished:
    """Do one order; every way it can end is a record, but for a full disk, which ends the whole run."""
    bench = Bench(order, _throttled(send))
    try:
        fields = _measured(order, bench)
        return Finished(order, _record(order, bench, status="done", **fields))
    except UnsupportedError as error:
        return Finished(order, _record(order, bench, status="unsupported", error=str(error)))
    except (BadInputError, MethodInputError) as error:
        line = " ".join(str(error).split())
        return Finished(order, _record(order, bench, status="failed", error=line), bad_input=line)
    except (torch.OutOfMemoryError, MemoryError) as error:
        return Finished(order, _record(order, bench, status="oom", error=str(error) or "out of memory"))
    except Exception as error:
        if _is_full_disk(error):
            return Finished(order, None, fatal=f"the disk of {order.folder} is full: free some space and run again")
        bench.details["traceback"] = traceback.format_exc()
        what = f"{type(error).__name__}: {error}"
        return Finished(order, _record(order, bench, status="failed", error=what))


def _measured(order: Order, bench: Bench) -> dict[str, Any]:
    if order.threads:
        torch.set_num_threads(order.threads)
    _seed(order.cell.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", UserWarning)
        fields = quantize_and_measure(bench)
    texts = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    bench.warnings.extend(texts)
    return fields


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False


def _record(order: Order, bench: Bench, **fields: Any) -> Record:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    common: dict[str, Any] = {
        "fingerprint": order.fingerprint,
        "cell": order.cell,
        "seed": order.cell.seed,
        "fidelity": bench.card.fidelity,
        "phases": bench.seconds,
        "peak_memory_mb": _peak_memory_mb(order.device),
        "details": json.loads(json.dumps(bench.details, default=float)),
        "warnings": bench.warnings,
        "provenance": order.provenance.model_copy(update={"finished": now}),
    }
    return Record(**(common | fields))


def _peak_memory_mb(device: str) -> float:
    """Peak of this process in MB: of the device's allocator on CUDA, of resident memory otherwise."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _is_full_disk(error: BaseException | None) -> bool:
    """A full disk, said by the system or, in a library's own error, by its words."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _throttled(send: Send) -> Send:
    """Pass on changes of phase at once, and steps at most ten times a second."""
    last: list[Any] = ["", 0.0]

    def tell(phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if phase != last[0] or done == total or now - last[1] > 0.1:
            last[:] = [phase, now]
            send(phase, done, total)

    return tell
