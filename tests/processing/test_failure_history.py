"""When a failure counts against its slide."""

from collections.abc import Iterator
from itertools import count

import pytest

from her2d.processing.failure_history import FailureHistory, OnNode, Suspicion

KIND, OTHER_KIND = "an error that nobody foresaw", "an I/O error"
DISK, SHARE = 1, 2


@pytest.fixture
def clock() -> Iterator[int]:
    return count()


@pytest.fixture
def history(clock) -> FailureHistory:
    return FailureHistory(lambda: next(clock))


def test_a_first_failure_proves_nothing(history):
    assert history.failed(1, KIND, DISK) == Suspicion(1)


def test_failures_of_all_slides_prove_nothing(history):
    found = [history.failed(job, KIND, DISK) for _ in range(5) for job in range(10)]
    assert not any(suspicion.is_proven or suspicion.is_storage_proven for suspicion in found)


def test_a_slide_that_fails_again_after_another_was_scored_is_the_cause(history, clock):
    history.failed(1, KIND, DISK)
    history.scored(2, begun=next(clock))
    assert history.failed(1, KIND, DISK) == Suspicion(2, is_proven=True)


def test_a_node_that_scores_nothing_proves_nothing_however_often_a_slide_fails_there(
    history, clock
):
    for _ in range(5):
        assert not history.failed(1, KIND, DISK, OnNode("alpha", scored=7)).is_proven
        history.scored(2, begun=next(clock))  # by another node
    assert history.failed(1, KIND, DISK, OnNode("beta", scored=9)).is_proven


def test_a_slide_that_fails_again_on_a_node_that_scores_others_is_the_cause(history, clock):
    history.failed(1, KIND, DISK, OnNode("alpha", scored=7))
    history.scored(2, begun=next(clock))
    assert history.failed(1, KIND, DISK, OnNode("alpha", scored=8)).is_proven
    history.scored(3, begun=next(clock))
    assert not history.failed(1, KIND, DISK, OnNode("alpha", scored=8)).is_proven


def test_a_slide_that_was_begun_before_the_failure_proves_nothing_however_late_it_ends(
    history, clock
):
    begun = next(clock)
    history.failed(1, KIND, SHARE)
    history.read(2, SHARE, begun)
    history.scored(2, begun)
    assert history.failed(1, KIND, SHARE) == Suspicion(2)


def test_each_proof_counts_once(history, clock):
    history.failed(1, KIND, DISK)
    history.scored(2, begun=next(clock))
    history.failed(1, KIND, DISK)
    assert not history.failed(1, KIND, DISK).is_proven


def test_a_slide_that_was_scored_is_no_longer_suspected(history, clock):
    history.failed(1, KIND, DISK)
    history.scored(1, begun=next(clock))
    assert history.failed(1, KIND, DISK) == Suspicion(1)


def test_a_slide_that_was_read_and_fails_again_while_it_is_scored_is_the_cause(history, clock):
    history.read(1, DISK, begun=next(clock))
    history.failed(1, KIND, DISK)
    history.scored(2, begun=next(clock))
    history.read(1, DISK, begun=next(clock))
    assert history.failed(1, KIND, DISK) == Suspicion(2, is_proven=True)


def test_a_file_that_could_be_read_itself_proves_nothing_about_its_storage(history, clock):
    history.failed(1, KIND, SHARE)
    history.read(1, SHARE, begun=next(clock))
    assert history.failed(1, KIND, SHARE) == Suspicion(2)


def test_only_a_slide_of_the_same_file_system_shows_that_its_storage_works(history, clock):
    history.failed(1, KIND, SHARE)
    history.read(2, DISK, begun=next(clock))
    assert history.failed(1, KIND, SHARE) == Suspicion(2)
    history.read(3, SHARE, begun=next(clock))
    assert history.failed(1, KIND, SHARE) == Suspicion(3, is_storage_proven=True)


def test_a_file_system_that_is_not_known_proves_nothing_and_is_never_proven(history, clock):
    history.failed(1, KIND, None)
    history.read(2, None, begun=next(clock))
    assert history.failed(1, KIND, None) == Suspicion(2)
    history.read(3, SHARE, begun=next(clock))
    assert history.failed(1, KIND, None) == Suspicion(3)


def test_failures_of_one_kind_prove_nothing_about_another(history, clock):
    history.failed(1, OTHER_KIND, SHARE)
    history.read(2, SHARE, begun=next(clock))
    history.scored(2, begun=next(clock))
    assert history.failed(1, KIND, SHARE) == Suspicion(1)
    assert history.failed(1, OTHER_KIND, SHARE) == Suspicion(2, True, True)
