"""The sizes of the thread pools."""

import pytest

from her2d.inference.engine import EngineError
from her2d.processing import threads
from her2d.processing.threads import pools_of, require_threads, threads_needed
from her2d.settings import InferenceSettings, Settings


@pytest.fixture
def machine(monkeypatch):
    """Set the CPUs and the limit of tasks."""

    def make(cpus: int, tasks: int | None) -> None:
        monkeypatch.setattr(threads, "usable_cpus", lambda: cpus)
        monkeypatch.setattr(threads, "usable_tasks", lambda: tasks)

    return make


def test_without_a_limit_every_cpu_is_used(machine):
    machine(64, None)
    assert pools_of(Settings()).engine_threads == 64
    assert pools_of(Settings()).decode_workers == 32


@pytest.mark.parametrize("tasks", [80, 128, 256, 2048])
def test_the_pools_fit_into_the_limit(machine, tasks):
    machine(64, tasks)
    used = pools_of(Settings()).engine_threads
    assert threads_needed(Settings(), used) <= tasks


def test_more_threads_than_may_be_started_are_refused_with_the_remedy(machine):
    machine(64, 256)
    wanted = Settings(inference=InferenceSettings(threads=200))
    with pytest.raises(EngineError, match=r"but may have 256\. Raise the limit \(TasksMax="):
        require_threads(wanted)


def test_sub_classifiers_that_run_one_by_one_have_pools_each():
    one_by_one = Settings(inference=InferenceSettings(run_all_classifiers=False))
    assert threads_needed(one_by_one, 8) == threads_needed(Settings(), 8) + 5 * 8
