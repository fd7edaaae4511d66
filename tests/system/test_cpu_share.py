"""How many threads compute at a time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from waiting import wait_until

from her2d.system.cpu_share import CpuShare

CPUS = 4


class Computing:
    """Counts what computes; each block lasts until enough others would have begun."""

    def __init__(self) -> None:
        self.share = CpuShare(CPUS, cpus=CPUS)
        self.engines = self.preparing = 0
        self.together: threading.Barrier | None = None
        self.seen: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    @contextmanager
    def _counted(self, kind: str):
        with self._lock:
            setattr(self, kind, getattr(self, kind) + 1)
            self.seen.append((self.engines, self.preparing))
        if self.together is not None:
            self.together.wait(60)
        time.sleep(0.002)
        yield
        with self._lock:
            setattr(self, kind, getattr(self, kind) - 1)

    def engine(self) -> None:
        with self.share.engine(), self._counted("engines"):
            pass

    def prepare(self) -> None:
        with self.share.preparing(), self._counted("preparing"):
            pass


def test_beside_an_engine_one_thread_prepares_tiles_and_without_one_as_many_as_there_are_cpus():
    computing = Computing()
    with ThreadPoolExecutor(16) as pool:
        computing.together = threading.Barrier(CPUS)
        for done in [pool.submit(computing.prepare) for _ in range(40)]:
            done.result()
        computing.together = None
        assert max(preparing for _, preparing in computing.seen) == CPUS
        mixed = [computing.engine, *[computing.prepare] * 5] * 20
        for done in [pool.submit(each) for each in mixed]:
            done.result()
    assert max(engines for engines, _ in computing.seen) == 1
    assert all(preparing <= 1 for engines, preparing in computing.seen if engines)
    assert len(computing.seen) == 40 + len(mixed)


def test_what_fails_leaves_its_place():
    share = CpuShare(1, cpus=1)
    for place in (share.engine, share.preparing) * 2:
        try:
            with place():
                raise ValueError
        except ValueError:
            pass
    with share.engine(), share.preparing():
        pass


def test_threads_that_an_engine_leaves_free_prepare_tiles_beside_it():
    share = CpuShare(1, cpus=3)
    with share.engine(), share.preparing(), share.preparing():
        pass


def test_a_thread_that_waits_for_its_turn_knows_how_long_and_others_waited_not_at_all():
    share = CpuShare(CPUS, cpus=CPUS)
    began, goes_on = threading.Event(), threading.Event()

    def first() -> float:
        with share.engine():
            began.set()
            goes_on.wait()
        return share.waited_s()

    def second() -> float:
        with share.engine():
            return share.waited_s()

    with ThreadPoolExecutor(2) as pool:
        at_work = pool.submit(first)
        began.wait()
        waiting = pool.submit(second)
        wait_until(lambda: share._engine_calls == 2)
        time.sleep(0.2)
        goes_on.set()
        assert waiting.result() > 0.1 > at_work.result()
    assert share.waited_s() == 0
