"""Run contestants in turn, each in its own process on the same core."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

_ROOT = Path(__file__).parents[2]
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program that does some work.

    Attributes:
        name: in tables.
        python: the interpreter of its environment.
        module: of `tools.peers.contestants`.
        arguments: passed to it.
        packages: folder of packages that come before those of its environment, or None.
    """

    name: str
    python: Path
    module: str
    arguments: Mapping[str, str]
    packages: Path | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One measurement.

    Attributes:
        cpu_s: processor time of all its threads.
        wall_s: time that passed.
        peak_mib: largest resident memory of the process so far.
    """

    cpu_s: float
    wall_s: float
    peak_mib: float


@dataclass(slots=True)
class Standing:
    """A contestant's results.

    Attributes:
        name: the contestant's.
        versions: of its libraries.
        turns: one for each repeat.
        found: what it found in the last one.
        problem: why it has none, or "".
    """

    name: str
    versions: dict[str, str] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def cpu_s(self) -> float:
        """Median processor time."""
        return float(np.median([turn.cpu_s for turn in self.turns]))


class ContestantError(Exception):
    """A contestant did not start, or ended while it worked."""


def compare(
    contestants: Sequence[Contestant],
    repeats: int,
    log: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Standing]:
    """Let all contestants do their work in turn, `repeats` times.

    A contestant that fails is left out from then on, with the reason.

    Args:
        contestants: at least one; names differ.
        repeats: at least 1.
        log: file that their standard error is appended to.
        progress: called with what is being done.
    """
    standings = [Standing(each.name) for each in contestants]
    running: list[tuple[_Running, Standing]] = []
    try:
        for contestant, standing in zip(contestants, standings, strict=True):
            progress(f"starting {contestant.name}")
            try:
                running.append((_Running(contestant, log), standing))
                standing.versions = running[-1][0].versions
            except ContestantError as error:
                standing.problem = str(error)
        for repeat in range(repeats):
            for process, standing in list(running):
                progress(f"repeat {repeat + 1} of {repeats}, {standing.name}")
                try:
                    turn, standing.found = process.work()
                except ContestantError as error:
                    standing.problem, standing.turns = str(error), []
                    running.remove((process, standing))
                    process.close()
                    continue
                standing.turns.append(turn)
    finally:
        for process, _ in running:
            process.close()
    return standings


class _Running:
    """A contestant's process."""

    def __init__(self, contestant: Contestant, log: Path) -> None:
        core = max(os.sched_getaffinity(0))
        path = [str(folder) for folder in (contestant.packages, _ROOT) if folder is not None]
        self._log = log.open("a")
        self._from = self._log.tell()
        self._path = log
        self._process = subprocess.Popen(
            [
                "taskset",
                "--cpu-list",
                str(core),
                str(contestant.python),
                "-m",
                f"tools.peers.contestants.{contestant.module}",
                json.dumps(dict(contestant.arguments)),
            ],
            cwd=_ROOT,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.versions: dict[str, str] = self._answer()["versions"]
        except ContestantError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def work(self) -> tuple[Turn, dict[str, Any]]:
        """Have the work done once. Raises ContestantError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContestantError(self._last_words()) from None
        answer = self._answer()
        turn = Turn(answer["cpu_s"], answer["wall_s"], answer["peak_mib"])
        return turn, answer["found"]

    def close(self) -> None:
        """End the process. Harmless if repeated."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ContestantError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        lines = self._path.read_bytes()[self._from :].decode(errors="replace").splitlines()
        return lines[-1] if lines else f"It ended with code {self._process.returncode}."
