"""`/healthz` and `/readyz`: whether the daemon is alive, and whether it accepts scans."""

from collections.abc import Iterable
from pathlib import Path

from her2d.daemon.results_probe import ResultsProbe
from her2d.daemon.shutdown import StopSignals
from her2d.daemon.storage_probe import StorageProbe
from her2d.settings import Settings

_UNHEALTHY_AFTER_S = 120.0


def is_overdue(since_pass_s: float) -> bool:
    """Return whether the inboxes should have been checked again since the last pass."""
    return since_pass_s > _UNHEALTHY_AFTER_S


def why_unhealthy(*, since_pass_s: float, silent_s: float, stalled_after_s: float) -> str | None:
    """Return why the daemon is not alive; None if it is.

    Args:
        since_pass_s: seconds since the inboxes were last checked.
        silent_s: seconds since the slowest slide in flight made progress; 0 if none is.
        stalled_after_s: `[intake] stalled_after_s`.
    """
    if is_overdue(since_pass_s):
        return f"The inboxes were last checked {since_pass_s:.0f} s ago."
    if silent_s > stalled_after_s:
        return f"A slide has made no progress for {silent_s:.0f} s."
    return None


def why_not_ready(
    settings: Settings,
    signals: StopSignals,
    storage: StorageProbe,
    results: ResultsProbe,
    problem: str | None,
) -> str | None:
    """Return why the daemon does not turn new scans into results; None if it does. Never waits.

    Args:
        settings: name the inboxes.
        signals: whether the daemon stops.
        storage: knows whether the inboxes answer.
        results: knows whether a result could be recorded now.
        problem: the problem that the daemon's threads report, if any.
    """
    if signals.stop_requested.is_set():
        return "The daemon is stopping and does not accept new scans."
    if problem is not None:
        return problem
    return _inbox_problem(storage, settings.intake.inboxes) or results.problem()


def _inbox_problem(storage: StorageProbe, inboxes: Iterable[Path]) -> str | None:
    return next(filter(None, map(storage.problem, inboxes)), None)
