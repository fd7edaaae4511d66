"""How many threads the pools have: as many as there are CPUs, and no more than may be started.

A limit of threads below what the CPUs ask for would otherwise show where a library fails to start
one, which few of them report.
"""

import math
from dataclasses import dataclass

from her2d.inference.engine import EngineError
from her2d.method import FOLDS
from her2d.settings import Settings
from her2d.system.cpus import usable_cpus, usable_tasks
from her2d.system.loggers import get_logger

log = get_logger(__name__)

# Main thread, stages, probes of folders, HTTP, log, webhook, archive, events; and of each slide its
# worker, its hash and its reading. A child process that decodes counts as well.
_OWN_THREADS = 48
_PER_INBOX = 2
_PER_SLIDE = 4
# Networks with a pool of the engine each: segmenter and classifiers; or, while it is checked that
# the five sub-classifiers compute the same one by one, these as well.
_NETWORKS, _SEPARATE_NETWORKS = 2, 2 + FOLDS


@dataclass(frozen=True, slots=True)
class Pools:
    """The sizes of the pools.

    Attributes:
        engine_threads: of each network's session on the CPU.
        decode_workers: threads that decode a slide; as many inspect its tiles.
    """

    engine_threads: int
    decode_workers: int


def pools_of(settings: Settings) -> Pools:
    """Return the sizes that the settings state, or else as many as CPUs and the limit allow."""
    return _pools(settings, _fitting_cpus(settings, usable_cpus(), usable_tasks()))


def require_threads(settings: Settings) -> None:
    """Check that the pools' threads can be started, and log if the limit leaves CPUs without work.

    Raises:
        EngineError: the settings ask for more threads than the process may start.
    """
    cpus, tasks = usable_cpus(), usable_tasks()
    if tasks is None:
        return
    if (needed := threads_needed(settings, 1)) > tasks:
        raise EngineError(
            f"her2d needs {needed} threads, but may have {tasks}. Raise the limit (TasksMax= of the"
            " unit, ulimit -u, or the container's), or lower [inference] threads, [pipeline]"
            " decode_workers or slides_in_flight."
        )
    fitting = _fitting_cpus(settings, cpus, tasks)
    if fitting < cpus:
        log.warning("threads_limited", cpus=cpus, used=fitting, most_threads=tasks)


def threads_needed(settings: Settings, cpus: int) -> int:
    """Return how many threads and child processes the daemon has at most on that many CPUs."""
    pools, slides = _pools(settings, cpus), settings.pipeline.slides_in_flight
    # A decoder that is not safe in this process has a child for each decoding thread.
    per_slide = _PER_SLIDE + 3 * pools.decode_workers
    folders = len(settings.intake.inboxes) + len(settings.intake.archive_folders)
    networks = _NETWORKS if settings.inference.run_all_classifiers else _SEPARATE_NETWORKS
    return (
        _OWN_THREADS + _PER_INBOX * folders + networks * pools.engine_threads + slides * per_slide
    )


def _fitting_cpus(settings: Settings, cpus: int, tasks: int | None) -> int:
    """Return the largest number of CPUs, at least 1, whose threads are within the limit."""
    if tasks is None:
        return cpus
    fitting = (n for n in range(cpus, 0, -1) if threads_needed(settings, n) <= tasks)
    return next(fitting, 1)


def _pools(settings: Settings, cpus: int) -> Pools:
    # Zero shares the CPUs among the slides in flight.
    each = math.ceil(cpus / settings.pipeline.slides_in_flight)
    return Pools(
        engine_threads=settings.inference.threads or cpus,
        decode_workers=settings.pipeline.decode_workers or each,
    )
