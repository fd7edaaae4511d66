"""The outcome of each error for the job."""

import errno
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from her2d.db.retry import WriteCancelledError
from her2d.inference.engine import DeviceLostError, EngineError
from her2d.pipeline.slide_run import SlideCancelledError
from her2d.processing import retry_policy
from her2d.processing.engine_health import EngineDownError
from her2d.processing.errors import (
    ClaimLostError,
    DuplicateScanError,
    FileChangedError,
    ResultsUnwritableError,
    ScanNotOnNodeError,
    TooFewTilesError,
    UnreadableHereError,
    UnreadableOnNodeError,
    UnreadableStorageError,
)
from her2d.processing.failure_history import FailureHistory, Suspicion
from her2d.processing.retry_policy import MOST_UNFORESEEN, RULES, Action, JobFile, decide
from her2d.queue.job import THIS_MACHINE
from her2d.slides.errors import SlideError, SlideUnavailableError
from her2d.system.shortage import OwnShortageError

DISK, SHARE = 1, 2


def os_error(number: int) -> OSError:
    return OSError(number, "as the kernel says")


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.fixture
def swept(tmp_path) -> JobFile:
    """A file in an inbox."""
    (tmp_path / "a.tif").write_bytes(b"x")
    return JobFile(tmp_path / "a.tif", is_swept=True)


@pytest.fixture
def archived(swept) -> JobFile:
    return JobFile(swept.path, is_swept=False)


@pytest.mark.parametrize(
    ("error", "action", "wait_s"),
    [
        (DuplicateScanError(3, "blake2b:aa"), Action.DUPLICATE, 0),
        (ClaimLostError("x"), Action.NOTHING, 0),
        (SlideCancelledError("x"), Action.GIVE_BACK, 0),
        (WriteCancelledError("x"), Action.GIVE_BACK, 0),
        (EngineDownError("x"), Action.POSTPONE, 60),
        (DeviceLostError("x"), Action.INTERRUPT, 0),
        (EngineError("x"), Action.POSTPONE, 60),
        (MemoryError("x"), Action.POSTPONE, 60),
        (os_error(errno.EMFILE), Action.POSTPONE, 60),
        (os_error(errno.ENOMEM), Action.POSTPONE, 60),
        (RuntimeError("can't start new thread"), Action.POSTPONE, 60),
        (OwnShortageError("x"), Action.POSTPONE, 60),
        (
            caused_by(SlideUnavailableError("a.tif", "x"), os_error(errno.ENFILE)),
            Action.POSTPONE,
            60,
        ),
        (caused_by(EngineError("x"), MemoryError()), Action.POSTPONE, 60),
        (FileChangedError("x"), Action.SETTLE, 0),
        (UnreadableStorageError("x"), Action.RETRY, 0),
        (sqlite3.OperationalError("x"), Action.POSTPONE, 30),
        (sqlite3.IntegrityError("x"), Action.RETRY, 0),
        (sqlite3.ProgrammingError("x"), Action.RETRY, 0),
        (caused_by(ResultsUnwritableError("x"), os_error(errno.ENOSPC)), Action.POSTPONE, 30),
        (caused_by(ResultsUnwritableError("x"), os_error(errno.ENAMETOOLONG)), Action.RETRY, 0),
        (SlideError("a.tif", "is not a slide"), Action.QUARANTINE, 0),
        (TooFewTilesError("a.tif", "has no result"), Action.QUARANTINE, 0),
        (TooFewTilesError("a.tif", "has no result", is_io_error=True), Action.RETRY, 0),
        (os_error(errno.EIO), Action.RETRY, 0),
        (os_error(errno.EACCES), Action.SETTLE, 0),
        (
            caused_by(SlideUnavailableError("a.tif", "x"), os_error(errno.ESTALE)),
            Action.SETTLE,
            0,
        ),
        (ZeroDivisionError("x"), Action.POSTPONE, 60),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_file_of_an_inbox(swept, error, action, wait_s):
    decision = decide(error, swept)
    assert (decision.action, decision.wait_s) == (action, wait_s)


def test_a_file_missing_from_its_inbox_has_vanished(swept):
    swept.path.unlink()
    assert decide(FileNotFoundError(errno.ENOENT, "gone"), swept).action is Action.VANISH


def test_a_file_missing_from_the_archive_is_retried(archived):
    archived.path.unlink()
    decision = decide(FileNotFoundError(errno.ENOENT, "gone"), archived)
    assert decision.action is Action.RETRY
    assert decision.reason == (f"a.tif is not in {archived.path.parent}, where it was archived.")


def test_a_file_whose_archive_is_unreachable_waits_without_losing_an_attempt(archived):
    decision = decide(os_error(errno.EHOSTDOWN), archived)
    assert (decision.action, decision.wait_s) == (Action.POSTPONE, 300)
    assert decision.reason == "a.tif cannot be read: as the kernel says."


@pytest.fixture
def on_share(swept, monkeypatch) -> JobFile:
    monkeypatch.setattr(
        retry_policy, "may_be_the_share", lambda error, path: error.errno == errno.EIO
    )
    return swept


def test_an_io_error_of_a_share_waits_longer_each_time_and_costs_no_attempt(on_share):
    failures = FailureHistory()
    waits = []
    for other in range(2, 6):
        decision = decide(
            os_error(errno.EIO), on_share, lambda kind: failures.failed(1, kind, SHARE)
        )
        assert (decision.action, decision.is_counted) == (Action.POSTPONE, True)
        waits.append(decision.wait_s)
        failures.scored(other, time.monotonic())
        failures.read(other, DISK, time.monotonic())
    assert waits == [60, 120, 240, 480]


def test_an_io_error_costs_an_attempt_once_another_slide_of_the_share_was_read(on_share):
    proven = Suspicion(2, is_storage_proven=True)
    decision = decide(os_error(errno.EIO), on_share, lambda _kind: proven)
    assert (decision.action, decision.event, decision.level) == (
        Action.RETRY,
        "slide_failed",
        "error",
    )
    assert decision.reason == (
        "a.tif cannot be read: as the kernel says. Other slides there can be read, so its storage"
        " may have lost a part of it. Scan or copy it again."
    )


def test_the_only_slide_of_a_share_that_cannot_be_read_for_a_day_is_quarantined(on_share):
    decision = decide(os_error(errno.EIO), replace(on_share, unforeseen=MOST_UNFORESEEN - 1))
    assert decision.action is Action.QUARANTINE
    assert decision.reason == (
        "a.tif cannot be read: as the kernel says. Given up after 30 attempts. Mend that, and try"
        " again with her2d queue retry."
    )


def test_a_share_that_cannot_be_reached_never_costs_a_slide_anything(on_share):
    away = replace(on_share, unforeseen=MOST_UNFORESEEN - 1)
    assert decide(os_error(errno.ETIMEDOUT), away).action is Action.SETTLE
    assert decide(os_error(errno.ETIMEDOUT), replace(away, is_swept=False)).action is (
        Action.POSTPONE
    )


def test_the_reason_of_an_unexpected_error_names_its_type(swept):
    assert decide(ZeroDivisionError("by zero"), swept).reason == "ZeroDivisionError: by zero"


def test_a_file_that_may_not_be_read_says_who_needs_permission(swept):
    decision = decide(os_error(errno.EACCES), swept)
    assert decision.event == "slide_forbidden"
    assert decision.reason.startswith("a.tif cannot be read: Permission denied. User ")


def test_a_shortage_of_the_process_says_what_is_short_and_that_the_file_is_not_the_cause(swept):
    assert decide(os_error(errno.EMFILE), swept).reason == (
        "her2d lacks descriptors of open files. The file is not the cause."
    )


def test_an_unforeseen_error_waits_longer_each_time_and_costs_no_attempt(swept):
    failures = FailureHistory()
    decisions = [
        decide(ZeroDivisionError("x"), swept, lambda kind: failures.failed(1, kind, DISK))
        for _ in range(4)
    ]
    assert [decision.wait_s for decision in decisions] == [60, 120, 240, 480]
    assert {decision.action for decision in decisions} == {Action.POSTPONE}


def test_an_unforeseen_error_costs_an_attempt_once_another_slide_was_scored(swept):
    failures = FailureHistory()
    decide(ZeroDivisionError("x"), swept, lambda kind: failures.failed(1, kind, DISK))
    failures.scored(2, time.monotonic())
    decision = decide(ZeroDivisionError("x"), swept, lambda kind: failures.failed(1, kind, DISK))
    assert decision.action is Action.RETRY


def test_a_slide_that_fails_alone_for_a_day_is_quarantined_as_perhaps_not_the_cause(swept):
    failures = FailureHistory()
    waited_s, unforeseen = 0.0, 0
    while True:
        file = replace(swept, unforeseen=unforeseen)
        decision = decide(ZeroDivisionError("x"), file, lambda kind: failures.failed(1, kind, DISK))
        if decision.action is not Action.POSTPONE:
            break
        waited_s += decision.wait_s
        unforeseen += 1
    assert decision.action is Action.QUARANTINE
    assert decision.event == "slide_quarantined"
    assert unforeseen + 1 == MOST_UNFORESEEN
    assert 24 < waited_s / 3600 < 25
    assert decision.reason == (
        "ZeroDivisionError: x. Given up after 30 attempts. her2d did not foresee this error, and no"
        " other slide was scored there meanwhile, so the file may not be the cause. Report it;"
        " afterwards try again with her2d queue retry."
    )


def test_a_slide_that_no_node_can_open_is_given_up_after_a_day_with_what_is_wrong(swept):
    error = ScanNotOnNodeError("The node a cannot open x.svs: no such file.")
    waited_s, unforeseen = 0.0, 0
    while True:
        failures = FailureHistory()  # as after a restart: what counts is with the job
        suspicion = failures.failed(1, "any", DISK)
        decision = decide(error, replace(swept, unforeseen=unforeseen), lambda _kind: suspicion)  # noqa: B023
        failures.scored(2, time.monotonic())
        if decision.action is not Action.POSTPONE:
            break
        assert decision.is_counted
        waited_s += decision.wait_s
        unforeseen += 1
    assert decision.action is Action.QUARANTINE
    assert unforeseen + 1 == MOST_UNFORESEEN
    assert 24 < waited_s / 3600 < 25
    assert not decision.is_unforeseen
    assert decision.reason == (
        "The node a cannot open x.svs: no such file. Given up after 30 attempts. Mend that, and try"
        " again with her2d queue retry."
    )


ON_ALPHA = UnreadableOnNodeError("a.tif", "alpha", "I/O error")


@pytest.mark.parametrize("tried", [(), ("beta",), (THIS_MACHINE,), ("beta", THIS_MACHINE)])
def test_a_node_that_is_the_first_to_fail_or_one_more_costs_an_attempt(swept, tried):
    assert decide(ON_ALPHA, replace(swept, unreadable_on=tried)).action is Action.RETRY


def test_a_node_that_fails_again_costs_no_further_attempt(swept):
    decision = decide(ON_ALPHA, replace(swept, unreadable_on=("alpha", THIS_MACHINE)))
    assert decision.action is Action.POSTPONE
    assert decision.is_counted


def test_a_node_costs_no_attempt_where_the_daemons_machine_has_read_the_file(swept):
    assert decide(ON_ALPHA.though_readable_here(), swept).action is Action.POSTPONE


def test_a_node_costs_the_last_attempt_only_after_the_daemons_machine_has_tried(swept):
    last = replace(swept, is_last_attempt=True)
    assert decide(ON_ALPHA, last).action is Action.POSTPONE
    tried = replace(last, unreadable_on=(THIS_MACHINE,))
    assert decide(ON_ALPHA, tried).action is Action.RETRY


def test_the_daemons_machine_costs_an_attempt_each_time_because_no_node_is_left_to_try(swept):
    error = UnreadableHereError("a.tif", "I/O error")
    for tried in (("alpha",), ("alpha", THIS_MACHINE)):
        decision = decide(error, replace(swept, unreadable_on=tried))
        assert decision.action is Action.RETRY
        assert decision.reason == (
            "The node alpha and this machine cannot read a.tif: I/O error. Its storage may have"
            " lost a part of it. Scan or copy it again."
        )


def test_a_restart_makes_neither_the_wait_nor_the_count_begin_anew(swept):
    file = replace(swept, unforeseen=20)
    assert (
        decide(
            ZeroDivisionError("x"), file, lambda kind: FailureHistory().failed(1, kind, DISK)
        ).wait_s
        == 3600
    )


def test_a_shortage_is_never_held_against_a_slide(swept):
    file = replace(swept, unforeseen=MOST_UNFORESEEN)
    assert decide(MemoryError(), file).action is Action.POSTPONE


def test_a_shortage_costs_no_attempt_even_if_other_slides_are_scored(swept):
    failures = FailureHistory()
    for other in range(2, 10):
        decision = decide(MemoryError(), swept, lambda kind: failures.failed(1, kind, DISK))
        assert decision.action is Action.POSTPONE
        failures.scored(other, time.monotonic())


def test_every_rule_has_a_description_of_when_it_applies():
    assert all(rule.when.endswith(".") for rule in RULES)
    assert len({rule.when for rule in RULES}) == len(RULES)


def test_the_last_rule_matches_every_error():
    assert RULES[-1].matches(Exception(), JobFile(Path("a.tif"), is_swept=True))
