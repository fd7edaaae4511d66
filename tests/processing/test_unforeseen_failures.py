"""When an unforeseen failure counts against its slide."""

from pathlib import Path

from her2d.processing.unforeseen_failures import Suspicion, UnforeseenFailures

INBOX, OTHER = Path("/scans"), Path("/share")


def test_a_first_failure_proves_nothing():
    assert UnforeseenFailures().failed(1, INBOX) == Suspicion(1, is_proven=False)


def test_failures_of_all_slides_prove_nothing():
    failures = UnforeseenFailures()
    found = [failures.failed(job, INBOX) for _ in range(5) for job in range(10)]
    assert not any(suspicion.is_proven for suspicion in found)


def test_a_slide_that_fails_again_after_another_was_scored_is_the_cause():
    failures = UnforeseenFailures()
    failures.failed(1, INBOX)
    failures.scored(2, INBOX)
    assert failures.failed(1, INBOX) == Suspicion(2, is_proven=True, is_storage_proven=True)


def test_each_proof_counts_once():
    failures = UnforeseenFailures()
    failures.failed(1, INBOX)
    failures.scored(2, INBOX)
    failures.failed(1, INBOX)
    assert not failures.failed(1, INBOX).is_proven


def test_a_slide_that_was_scored_is_no_longer_suspected():
    failures = UnforeseenFailures()
    failures.failed(1, INBOX)
    failures.scored(1, INBOX)
    assert failures.failed(1, INBOX) == Suspicion(1, is_proven=False)


def test_only_a_slide_of_the_same_inbox_tells_that_its_storage_works():
    failures = UnforeseenFailures()
    failures.failed(1, INBOX)
    failures.scored(2, OTHER)
    assert failures.failed(1, INBOX) == Suspicion(2, is_proven=True, is_storage_proven=False)
    failures.scored(3, INBOX)
    assert failures.failed(1, INBOX) == Suspicion(3, is_proven=True, is_storage_proven=True)
