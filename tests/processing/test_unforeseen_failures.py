"""When an unforeseen failure counts against its slide."""

from her2d.processing.unforeseen_failures import Suspicion, UnforeseenFailures


def test_a_first_failure_proves_nothing():
    assert UnforeseenFailures().failed(1) == Suspicion(1, is_proven=False)


def test_failures_of_all_slides_prove_nothing():
    failures = UnforeseenFailures()
    found = [failures.failed(job) for _ in range(5) for job in range(10)]
    assert not any(suspicion.is_proven for suspicion in found)


def test_a_slide_that_fails_again_after_another_was_scored_is_the_cause():
    failures = UnforeseenFailures()
    failures.failed(1)
    failures.scored(2)
    assert failures.failed(1) == Suspicion(2, is_proven=True)


def test_each_proof_counts_once():
    failures = UnforeseenFailures()
    failures.failed(1)
    failures.scored(2)
    failures.failed(1)
    assert not failures.failed(1).is_proven


def test_a_slide_that_was_scored_is_no_longer_suspected():
    failures = UnforeseenFailures()
    failures.failed(1)
    failures.scored(1)
    assert failures.failed(1) == Suspicion(1, is_proven=False)
