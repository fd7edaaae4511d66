"""A contestant's side: do the same work whenever asked, and report its processor time."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_STATUS = Path("/proc/self/status")

Work = Callable[[], dict[str, Any]]


def arguments() -> dict[str, str]:
    """Return what the comparison passed to this contestant."""
    given: dict[str, str] = json.loads(sys.argv[1])
    return given


def serve(work: Work, libraries: Iterable[str]) -> None:
    """Run `work` for each line of the standard input and write one line of JSON for each.

    Args:
        work: returns what the contestant found, as JSON. An array under `mask` is saved to the file
            that the argument `mask` names.
        libraries: whose versions are reported first.
    """
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    versions = {library: version(library) for library in libraries}
    print(json.dumps({"versions": versions}), file=answers, flush=True)
    for _ in sys.stdin:
        before, started = _cpu_s(), time.monotonic()
        found = work()
        cpu_s, wall_s = _cpu_s() - before, time.monotonic() - started
        _save_mask(found.pop("mask", None))
        measured = {
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "peak_mib": _peak_mib(),
            "found": found,
        }
        print(json.dumps(measured), file=answers, flush=True)


def mean_of(tile: NDArray[np.uint8]) -> float:
    """Return the mean of a tile's pixels, for little time beside that of reading them."""
    return sum(cv2.mean(tile)[:3]) / 3


def _peak_mib() -> float:
    # `getrusage` counts what the process was before `exec`, too.
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _save_mask(mask: NDArray[np.bool_] | None) -> None:
    if mask is not None:
        np.save(arguments()["mask"], np.packbits(mask))


def _cpu_s() -> float:
    """Return the processor time of this process, all its threads, and children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
