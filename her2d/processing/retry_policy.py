"""The outcome of each error for a job: the first row of a table that matches decides.

Only an error that the file itself causes costs an attempt. One that nobody foresaw counts as the
process's, until other slides are scored while this one fails again, or until it has failed for a
day. An I/O error of a share counts as the share's, until other slides of the share are read while
this one fails again, or for a day in which the share can be reached. `her2d scan` words its errors
by the same table, and the documentation's page on retries is this table.
"""

import errno
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from her2d.db.retry import WriteCancelledError
from her2d.inference.engine import DeviceLostError
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.processing.engine_health import EngineDownError
from her2d.processing.errors import (
    ActorCrashedError,
    ClaimLostError,
    ClusterLostError,
    DuplicateScanError,
    FileChangedError,
    ResultLostError,
    ResultsUnwritableError,
    ScanNotOnNodeError,
    TooFewTilesError,
    UnreadableHereError,
    UnreadableOnNodeError,
    UnreadableStorageError,
)
from her2d.processing.failure_history import Suspicion
from her2d.queue.job import THIS_MACHINE, missing_from_archive
from her2d.slides.errors import SlideError, SlideUnavailableError
from her2d.system.backoff import Backoff
from her2d.system.io_errors import is_away, is_forbidden, is_gone, may_be_the_share
from her2d.system.ownership import read_hint
from her2d.system.shortage import is_own_shortage, shortage_of

FILE_FAILED = "slide_failed"
"""Log event of a rule that holds the file for the cause after all."""

_ENGINE_DOWN_S = 60.0
_RESULTS_UNWRITABLE_S = 30.0
_UNREACHABLE_S = 300.0
_NODE_LOST_S = 1.0
# The file may be the cause, and others must not wait while it fails again and again.
SUSPECTED = Backoff(first_s=60.0, longest_s=3600.0)

MOST_UNFORESEEN = 30
"""Unforeseen errors of one slide until it is quarantined; with the waits between them, a day."""

# Error numbers of a file system that refuses a file name.
_BAD_NAME = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})


class Action(StrEnum):
    """The outcome of a failed attempt for its job."""

    RETRY = "retry"
    """Retried later, which costs an attempt; quarantined after the last one."""
    POSTPONE = "postpone"
    """Retried after a fixed wait; costs no attempt."""
    SETTLE = "settle"
    """Retried when the file no longer changes; costs no attempt."""
    QUARANTINE = "quarantine"
    """Not retried, unless an operator requests it."""
    GIVE_BACK = "give back"
    """Queued for the next start; costs no attempt."""
    INTERRUPT = "interrupt"
    """Queued for the next process, and counted as an interruption."""
    DUPLICATE = "duplicate"
    """Ended, because the same scan has a result."""
    VANISH = "vanish"
    """Ended, because the file is missing; the job continues if the file returns."""
    NOTHING = "nothing"
    """Not changed, because another worker has the job."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """The file of a job whose attempt failed.

    Attributes:
        path: the file.
        is_swept: whether a sweep of its inbox finds it; a file in the archive is not swept.
        unforeseen: how often it was postponed for an error that nobody foresaw.
        unreadable_on: the machines that could not read it before; see `Job`.
        is_last_attempt: whether an attempt that counts is the last.
    """

    path: Path
    is_swept: bool
    unforeseen: int = 0
    unreadable_on: tuple[str, ...] = ()
    is_last_attempt: bool = False

    def is_gone(self, error: OSError) -> bool:
        """Return whether the error reports a missing file, and the file is missing."""
        return isinstance(error, FileNotFoundError) and is_gone(self.path)


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a job, and how it is reported.

    Attributes:
        reason: one sentence, stored with the job.
        wait_s: seconds to wait, for POSTPONE.
        event: the log event.
        level: the log event's level.
        is_unforeseen: whether the error's traceback belongs in the log.
        is_counted: whether a postponement counts towards MOST_UNFORESEEN.
    """

    action: Action
    reason: str
    event: str
    level: str
    wait_s: float = 0.0
    is_unforeseen: bool = False
    is_counted: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    Attributes:
        when: the condition in words, for the documentation.
        matches: whether the row applies to an error of a job's file.
        wait_s: seconds to wait, for POSTPONE.
        reason: the sentence kept with the job; by default what the error says.
        if_proven: the action instead, once another slide was scored since this one last failed so,
            by the same node if it has failed there before. Without it the file is never the cause.
            With it the slide is quarantined after MOST_UNFORESEEN errors in any case, because it
            may be the only one.
        if_storage_proven: the action instead, once another slide of the same file system was read
            since this one last failed so.
        is_suspected: whether the wait grows with each failure, because the file may be the cause.
        ends: whether the slide is quarantined after MOST_UNFORESEEN of these errors.
    """

    when: str
    matches: Callable[[Exception, JobFile], bool]
    action: Action
    event: str
    level: str = "warning"
    wait_s: float = 0.0
    reason: Callable[[Exception, JobFile], str] = lambda error, _: str(error)
    if_proven: Action | None = None
    if_storage_proven: Action | None = None
    is_suspected: bool = False
    ends: bool = False


def decide(
    error: Exception,
    file: JobFile,
    failed: Callable[[str], Suspicion] = lambda _kind: Suspicion(),
) -> Decision:
    """Return the outcome for a job whose attempt ended with `error`.

    Args:
        error: what ended the attempt.
        file: the job's file.
        failed: notes a failure, of the kind that the rule names, for which the file is only
            suspected, and returns what is known.
    """
    rule = next(rule for rule in RULES if rule.matches(error, file))
    is_unforeseen = rule.if_proven is not None
    action, wait_s, event, level = rule.action, rule.wait_s, rule.event, rule.level
    reason = rule.reason(error, file)
    if rule.is_suspected:
        suspicion = failed(rule.when)
        unforeseen = file.unforeseen + 1 if is_unforeseen or rule.ends else 0
        wait_s = SUSPECTED.wait_s(max(suspicion.failures, unforeseen))
        if rule.if_proven is not None and suspicion.is_proven:
            action = rule.if_proven
        elif rule.if_storage_proven is not None and suspicion.is_storage_proven:
            action, event, level = rule.if_storage_proven, FILE_FAILED, "error"
            reason += (
                " Other slides there can be read, so its storage may have lost a part of it. Scan"
                " or copy it again."
            )
        elif unforeseen >= MOST_UNFORESEEN:
            action, event = Action.QUARANTINE, "slide_quarantined"
            reason = f"{reason.rstrip('.')}. Given up after {unforeseen} attempts. " + (
                "Mend that, and try again with her2d queue retry."
                if rule.ends
                else "her2d did not foresee this error, and no other slide was scored there"
                " meanwhile, so the file may not be the cause. Report it; afterwards try again with"
                " her2d queue retry."
            )
    is_counted = is_unforeseen or rule.ends
    return Decision(action, reason, event, level, wait_s, is_unforeseen, is_counted)


def _is_a(*types: type[Exception]) -> Callable[[Exception, JobFile], bool]:
    return lambda error, _: isinstance(error, types)


def _storage_error(error: Exception) -> OSError | None:
    """Return the error of the storage that caused `error`, or None."""
    if isinstance(error, SlideUnavailableError):
        cause = error.__cause__
        return cause if isinstance(cause, OSError) else None
    return error if isinstance(error, OSError) else None


def _storage(
    condition: Callable[[OSError, JobFile], bool],
) -> Callable[[Exception, JobFile], bool]:
    def matches(error: Exception, file: JobFile) -> bool:
        cause = _storage_error(error)
        return cause is not None and condition(cause, file)

    return matches


def _cannot_be_read(error: Exception, file: JobFile) -> str:
    cause = _storage_error(error)
    detail = (cause.strerror or cause) if cause is not None else error
    return f"{file.path.name} cannot be read: {detail}."


def _may_not_be_read(_error: Exception, file: JobFile) -> str:
    return f"{file.path.name} {read_hint()}"


def failed_reader(error: Exception) -> str | None:
    """Return the machine that could not read a file that it had opened; None for other errors."""
    if isinstance(error, UnreadableOnNodeError):
        return error.node
    return THIS_MACHINE if isinstance(error, UnreadableHereError) else None


def _may_be_the_node(error: Exception, file: JobFile) -> bool:
    """Return whether a node's mount may be why it cannot read a file, or its failure is not new.

    Only a machine that has another mount can tell. So no file is given up before the daemon's
    machine has tried, and one that it reads is not the cause.
    """
    if not isinstance(error, UnreadableOnNodeError):
        return False
    is_tried_here = THIS_MACHINE in file.unreadable_on
    return (
        error.is_readable_here
        or error.node in file.unreadable_on
        or (file.is_last_attempt and not is_tried_here)
    )


def _cannot_be_read_on(error: Exception, file: JobFile) -> str:
    """Return which machines cannot read a file, and what is to be done about it."""
    assert isinstance(error, UnreadableOnNodeError | UnreadableHereError)
    if isinstance(error, UnreadableOnNodeError) and error.is_readable_here:
        return f"{error} Check the share on that node."
    machines = dict.fromkeys((*file.unreadable_on, failed_reader(error)))
    nodes = [str(name) for name in machines if name != THIS_MACHINE]
    who = "The nodes " + ", ".join(nodes[:-1]) + " and " if nodes[1:] else "The node "
    who += nodes[-1]
    if THIS_MACHINE not in machines:
        return f"{who} cannot read {error.file_name}: {error.detail}. This machine reads it next."
    return (
        f"{who}{',' if nodes[1:] else ''} and this machine cannot read {error.file_name}:"
        f" {error.detail}. Its storage may have lost a part of it. Scan or copy it again."
    )


def _this_slides_record(error: Exception, _: JobFile) -> bool:
    """Return whether the slide itself, not the storage, is why its result cannot be written."""
    if isinstance(error, ResultsUnwritableError):
        return isinstance(error.__cause__, OSError) and error.__cause__.errno in _BAD_NAME
    return isinstance(
        error,
        sqlite3.IntegrityError
        | sqlite3.DataError
        | sqlite3.InterfaceError
        | sqlite3.ProgrammingError,
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "The same bytes have a result by the same bundle.",
        _is_a(DuplicateScanError),
        Action.DUPLICATE,
        "slide_duplicate",
        "info",
    ),
    Rule(
        "Another worker has claimed the job.",
        _is_a(ClaimLostError),
        Action.NOTHING,
        "slide_claim_lost",
    ),
    Rule(
        "The daemon stops before the slide is finished.",
        _is_a(SlideCancelledError, WriteCancelledError),
        Action.GIVE_BACK,
        "slide_given_back",
        "info",
    ),
    Rule(
        "The engine fails for every slide.",
        _is_a(EngineDownError),
        Action.POSTPONE,
        "engine_down",
        "error",
        _ENGINE_DOWN_S,
    ),
    Rule(
        # The slide may be the cause of the device's failure.
        "The GPU is lost to this process, which ends with exit code 75.",
        _is_a(DeviceLostError),
        Action.INTERRUPT,
        "device_lost",
        "critical",
    ),
    Rule(
        "The node that scored the slide, or the whole cluster, was lost.",
        _is_a(ClusterLostError),
        Action.POSTPONE,
        "slide_node_lost",
        wait_s=_NODE_LOST_S,
    ),
    Rule(
        "The node that scored the slide has no room for the result: Ray's object store is full.",
        _is_a(ResultLostError),
        Action.POSTPONE,
        "slide_result_lost",
        "error",
        is_suspected=True,
    ),
    Rule(
        "A node cannot read the file, and the daemon's machine can or has not tried, or the same"
        " node could not before.",
        _may_be_the_node,
        Action.POSTPONE,
        "slide_unreadable",
        "error",
        reason=_cannot_be_read_on,
        is_suspected=True,
        ends=True,
    ),
    Rule(
        "One more machine, a node or the daemon's, cannot read the file.",
        _is_a(UnreadableOnNodeError, UnreadableHereError),
        Action.RETRY,
        "slide_unreadable",
        "error",
        reason=_cannot_be_read_on,
    ),
    Rule(
        "A node cannot open, receive or reach the file, or finds other content there.",
        _is_a(ScanNotOnNodeError),
        Action.POSTPONE,
        "slide_not_on_node",
        "error",
        is_suspected=True,
        ends=True,
    ),
    Rule(
        # As with anything that nobody foresaw: only once other slides work is the file the cause.
        "A node's process ended or hung while it scored the slide, and the node lives.",
        _is_a(ActorCrashedError),
        Action.POSTPONE,
        "slide_actor_crashed",
        "error",
        if_proven=Action.RETRY,
        is_suspected=True,
    ),
    Rule(
        "her2d itself lacks memory, threads, processes or descriptors.",
        lambda error, _: is_own_shortage(error),
        Action.POSTPONE,
        "process_short",
        "error",
        reason=lambda error, _: f"her2d lacks {shortage_of(error)}. The file is not the cause.",
        is_suspected=True,
    ),
    Rule(
        "The file was written to while it was read.",
        _is_a(FileChangedError),
        Action.SETTLE,
        "slide_changed_while_read",
    ),
    Rule(
        "This slide's record cannot be stored: its name is refused by the heatmaps' file system,"
        " or its values by the database.",
        _this_slides_record,
        Action.RETRY,
        "slide_failed",
        "error",
    ),
    Rule(
        "No result can be stored, because the disk or the database is full or not writable.",
        _is_a(ResultsUnwritableError, sqlite3.Error),
        Action.POSTPONE,
        "results_unwritable",
        "error",
        _RESULTS_UNWRITABLE_S,
    ),
    Rule(
        "The file is missing from the archive.",
        _storage(lambda error, file: file.is_gone(error) and not file.is_swept),
        Action.RETRY,
        "slide_failed",
        "error",
        reason=lambda _, file: missing_from_archive(file.path),
    ),
    Rule(
        "The file is missing from the inbox.",
        _storage(lambda error, file: file.is_gone(error)),
        Action.VANISH,
        "slide_vanished",
        reason=lambda _error, _file: "The file was removed or renamed.",
    ),
    Rule(
        # While the probe of its inbox fails too, the file is not opened, and the next rules apply.
        "A network share returns an I/O error for the file, and can be reached.",
        _storage(lambda error, file: may_be_the_share(error, file.path)),
        Action.POSTPONE,
        "slide_unreachable",
        reason=_cannot_be_read,
        if_storage_proven=Action.RETRY,
        is_suspected=True,
        ends=True,
    ),
    Rule(
        # No sweep finds the file when the archive returns.
        "The archive cannot be reached.",
        _storage(lambda error, file: is_away(error) and not file.is_swept),
        Action.POSTPONE,
        "slide_unreachable",
        wait_s=_UNREACHABLE_S,
        reason=_cannot_be_read,
    ),
    Rule(
        "The user of the daemon may not read the file.",
        _storage(lambda error, _: is_forbidden(error)),
        Action.SETTLE,
        "slide_forbidden",
        reason=_may_not_be_read,
    ),
    Rule(
        "The file in the inbox cannot be reached: its share is not mounted, or its server is busy.",
        _storage(lambda error, _: is_away(error)),
        Action.SETTLE,
        "slide_unreachable",
        reason=_cannot_be_read,
    ),
    Rule(
        "The disk returns any other error.",
        _storage(lambda _error, _file: True),
        Action.RETRY,
        "slide_failed",
        "error",
        reason=_cannot_be_read,
    ),
    Rule(
        "The storage returned I/O errors for parts of the file, and attempts are left.",
        _is_a(UnreadableStorageError),
        Action.RETRY,
        "slide_failed",
        "error",
    ),
    Rule(
        "The storage returned I/O errors, and too few tiles of the slide could be read to call it.",
        lambda error, _: isinstance(error, TooFewTilesError) and error.is_io_error,
        Action.RETRY,
        "slide_failed",
        "error",
    ),
    Rule(
        "Too few tiles of the slide could be read to call it.",
        _is_a(TooFewTilesError),
        Action.QUARANTINE,
        "slide_quarantined",
    ),
    Rule(
        "The file is not a slide that her2d can read.",
        _is_a(SlideError),
        Action.QUARANTINE,
        "slide_quarantined",
    ),
    Rule(
        "Anything else, such as an error of the engine or a defect of her2d.",
        lambda _error, _file: True,
        Action.POSTPONE,
        "slide_failed",
        "error",
        reason=lambda error, _: f"{type(error).__name__}: {error}",
        if_proven=Action.RETRY,
        is_suspected=True,
    ),
)
