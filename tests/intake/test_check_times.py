"""The order in which settling files are checked, beside a list that is sorted each time."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from her2d.intake.check_times import CheckTimes
from her2d.intake.settling import Watch
from her2d.system.file_identity import FileState

WATCH = Watch(FileState(1, 1, 1), 0.0, 0.0)
_IDS = st.integers(1, 5)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "discard", "start again", "reach"]), _IDS),
        st.tuples(st.just("put"), _IDS, st.integers(0, 9)),
        st.tuples(st.just("due"), st.integers(0, 9)),
    ),
    max_size=40,
)


def at(seconds: float) -> Watch:
    return replace(WATCH, check_at=seconds)


@given(_STEPS)
def test_what_is_due_is_what_a_sorted_list_of_all_files_has(steps):
    times, known = CheckTimes(), {}
    for what, number, *more in steps:
        match what:
            case "add":
                times.add(number)
                known.setdefault(number, float("-inf"))
            case "discard":
                times.discard(number)
                known.pop(number, None)
            case "start again" if number in known:
                times.start_again(number)
                known[number] = float("-inf")
            case "put" if number in known:
                times.put(number, at(more[0]))
                known[number] = float(more[0])
            case "due":
                expected = sorted((when, id_) for id_, when in known.items() if when <= number)
                assert list(dict.fromkeys(times.due(number))) == [id_ for _, id_ in expected]
            case "reach":  # a pass that ends after its first file, which stays due
                next(iter(times.due(9)), None)
        assert len(times) == len(known)


def test_a_file_that_gets_another_time_during_a_pass_is_not_due_again():
    times = CheckTimes()
    for job_id in (1, 2):
        times.add(job_id)
    for job_id in times.due(0):
        times.put(job_id, at(5))
    assert list(times.due(4)) == []
    assert list(times.due(5)) == [1, 2]


def test_a_pass_that_fails_leaves_its_files_due():
    times = CheckTimes()
    times.add(1)
    due = times.due(0)
    next(due)
    due.close()
    assert list(times.due(0)) == [1]
