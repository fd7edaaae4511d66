"""`her2d demo`: the daemon processes six slides of a simulated scanner."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from sqlite_utils import Database

from her2d.cli.errors import UserError
from her2d.cli.options import MOST_SEED, settings_of
from her2d.cli.result_tables import result_table
from her2d.cli.terminal import say
from her2d.db.connection import open_database
from her2d.db.place import share_problem
from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue
from her2d.results.listing import list_results
from her2d.results.queries import find_slide
from her2d.results.records import SlideResult
from her2d.system.files import private_opener, write_whole

if TYPE_CHECKING:
    from her2d.simulator.plan import SlidePlan, Status
    from her2d.simulator.scanner import Delivered

_MARKER = ".made-by-her2d-demo"
_TIMEOUT_S = 170.0
_STOP_S = 60.0
_IHC_RESULT = "not-he"
_BROWSE_PORT = 8001  # the default of `her2d browse`
_ENDED = (
    JobState.DONE,
    JobState.QUARANTINED,
    JobState.CANCELLED,
    JobState.DUPLICATE,
    JobState.VANISHED,
)
_CONFIG = """\
[intake]
inboxes = ["inbox"]
settle_s = 1.0
sweep_s = 2.0

[bundle]
path = {bundle!r}

[ops]
port = 0
log_format = "json"
"""


@dataclass(frozen=True, slots=True)
class _Scanner:
    """A simulated scanner at work.

    Attributes:
        delivered: the slides that it has written.
        work: ends when it has written all.
    """

    delivered: "SimpleQueue[Delivered]"
    work: Future[None]


@dataclass(frozen=True, slots=True)
class _Case:
    """A simulated slide and its right result.

    Attributes:
        plan: the slide.
        result: `positive`, `negative`; `borderline`, which may be called either; or the code of
            the reason why a slide has no call. The scanner takes the section with
            immunohistochemistry where that is the right one.
    """

    plan: "SlidePlan"
    result: str


@dataclass(frozen=True, slots=True)
class _Daemon:
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise UserError if the daemon has ended."""
        if self.process.poll() is not None:
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise UserError(f"The daemon stopped: {' '.join(last)}")


def demo(
    directory: Annotated[
        Path, typer.Option(help="Folder to work in; that of an earlier demo is replaced.")
    ] = Path("demo"),
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="The same seed gives the same slides.")
    ] = 5,
) -> None:
    """Process six simulated slides and print their results.

    Starts the daemon and a simulated scanner that writes slides into its inbox: HER2-negative and
    positive ones, one near the threshold, one of benign tissue, and one with immunohistochemistry.
    Exit code 1 if a slide's result is not what was simulated.
    """
    started = time.monotonic()
    bundle = settings_of(None).bundle.path
    _prepare(directory, bundle)
    config = directory / "config.toml"
    database = settings_of(config).results.database
    if (problem := share_problem(database)) is not None:
        raise UserError(f"{problem} Choose another --directory.")
    db = open_database(database)
    with _daemon(config, directory / "daemon.log") as daemon:
        inbox = directory / "inbox"
        say(f"The daemon watches {inbox}. A simulated scanner writes slides there.")
        cases = _cases(seed)
        with _scanner(inbox, cases, seed) as scanned:
            _follow(daemon, db, scanned, len(cases))
    results = list_results(db)
    result_table(reversed(results)).print(Console(), wider="a wider terminal")
    _refused(db)
    say(f"{len(results)} results in {time.monotonic() - started:.0f} s.")
    _print_next_steps(config, results)
    db.close()
    if wrong := _wrong_results(cases, results):
        raise UserError(" ".join(wrong))


def _cases(seed: int) -> "list[_Case]":
    """Plan a slide for each kind of result, small enough to be written in seconds."""
    from her2d.simulator.plan import Histology, plan_slide

    # With these offsets from the default seed, one negative and one positive call of the shipped
    # bundle are certain.
    cases: list[tuple[int, str, Status, float, float, str]] = [
        (6, "gastric-001", "negative", 0.0, 4.0, "negative"),
        (1, "gastric-002", "positive", 0.85, 4.0, "positive"),
        (2, "gastric-003-near-10", "positive", 0.1, 4.0, "borderline"),
        (3, "gastric-004-benign", "indeterminate", 0.0, 4.0, "too-little-tumor"),
        (4, "gastric-005-ihc", "positive", 0.7, 4.0, _IHC_RESULT),
        (5, "gastric-006-at-40x", "positive", 0.85, 40.0, "positive"),
    ]
    found = []
    for offset, name, status, strong, magnification, result in cases:
        half = 1 if magnification == 4.0 else 2
        plan = plan_slide(
            name,
            seed + offset,
            her2_status=status,
            width=2816 // half,
            height=2304 // half,
            magnification=magnification,
        )
        plan = replace(plan, strong_fraction=strong, histology=Histology())
        found.append(_Case(plan, result))
    return found


@contextmanager
def _scanner(inbox: Path, cases: "list[_Case]", seed: int) -> "Iterator[_Scanner]":
    """Let a simulated scanner write slides in a thread; it stops after the slide in progress."""
    from her2d.simulator.motic import write_he_slide, write_ihc_slide
    from her2d.simulator.scanner import run_scanner

    delivered: SimpleQueue[Delivered] = SimpleQueue()
    stop = Event()
    ihc = {case.plan.name for case in cases if case.result == _IHC_RESULT}

    def write(plan: "SlidePlan", path: Path) -> None:
        (write_ihc_slide if plan.name in ihc else write_he_slide)(plan, path)

    def scan() -> None:
        plans = [case.plan for case in cases]
        for each in run_scanner(inbox, plans, seed=seed, bytes_per_second=2e6, write=write):
            delivered.put(each)
            if stop.is_set():
                return

    with ThreadPoolExecutor(1, thread_name_prefix="her2d-scanner") as pool:
        try:
            yield _Scanner(delivered, pool.submit(scan))
        finally:
            stop.set()


def _follow(daemon: _Daemon, db: Database, scanner: _Scanner, slides: int) -> None:
    """Print what happens until all slides have ended. Raises UserError if nothing happens."""
    told = _Told(slides)
    deadline = time.monotonic() + _TIMEOUT_S
    with Console().status("starting") as status:
        while time.monotonic() < deadline:
            daemon.check()
            if scanner.work.done():
                scanner.work.result()  # raises what stopped it
            for line in (*_scanned(scanner), *told.news(db)):
                say(line)
                deadline = time.monotonic() + _TIMEOUT_S  # a slow machine makes progress, too
            status.update(told.summary)
            if told.ended >= slides:
                return
            time.sleep(0.3)
    raise UserError(f"The slides were not processed in time. See {daemon.log}.")


def _scanned(scanner: _Scanner) -> Iterator[str]:
    while not scanner.delivered.empty():
        each = scanner.delivered.get()
        yield f"scanned  {each.path.name} ({each.style.value})"


class _Told:
    """What was printed about the jobs, so that only news are."""

    def __init__(self, slides: int) -> None:
        self._slides = slides
        self._states: dict[int, JobState] = {}
        self.summary = "scanning"

    @property
    def ended(self) -> int:
        """The number of jobs that have ended."""
        return sum(state in _ENDED for state in self._states.values())

    def news(self, db: Database) -> Iterator[str]:
        """Generate a line for each job whose scoring began or ended since the last call."""
        jobs = JobQueue(db).in_state()
        for job in jobs:
            before, name = self._states.get(job.id), job.path.name
            self._states[job.id] = job.state
            if before in _ENDED:
                continue
            # A short job may have begun and ended between two looks at the database.
            if before is not JobState.RUNNING and job.state in (JobState.RUNNING, JobState.DONE):
                yield f"scoring  {name}"
            if job.state is JobState.DONE:
                yield f"scored   {name}: {_outcome(db, job)} ({self.ended} of {self._slides})"
            elif job.state in _ENDED:
                yield f"{job.state:8} {name}: {job.reason} ({self.ended} of {self._slides})"
        running = [job.path.name for job in jobs if job.state is JobState.RUNNING]
        doing = f"scoring {', '.join(running)}" if running else "scanning"
        self.summary = escape(f"{doing} ({self.ended} of {self._slides} slides scored)")


def _outcome(db: Database, job: Job) -> str:
    if job.slide_id is None:
        return "done"
    result = find_slide(db, f"id:{job.slide_id}")
    return f"{result.her2_status}, {result.tiles_total} tiles in {result.elapsed_s:.1f} s"


def _refused(db: Database) -> None:
    for job in JobQueue(db).in_state(JobState.QUARANTINED):
        say(f"{job.path.name} could not be processed: {job.reason}")


def _wrong_results(cases: list[_Case], results: list[SlideResult]) -> list[str]:
    """Return a sentence for each slide whose result is not what was simulated."""
    found = {Path(result.file_name).stem: result for result in results}
    return [
        f"{case.plan.name} was simulated to be {case.result}, but its result is {_called(result)}."
        for case in cases
        if (result := found.get(case.plan.name)) is None or not _is_right(case, result)
    ]


def _called(result: SlideResult | None) -> str:
    return "missing" if result is None else result.reason_code or result.her2_status


def _is_right(case: _Case, result: SlideResult) -> bool:
    if case.result == "borderline":
        return result.borderline
    return case.result == _called(result)


def _prepare(directory: Path, bundle: Path) -> None:
    if os.path.lexists(directory) and not os.path.lexists(directory / _MARKER):
        raise UserError(f"{directory} was not created by a demo. Choose another --directory.")
    try:
        if directory.exists():
            shutil.rmtree(directory)
        (directory / "inbox").mkdir(parents=True)
        (directory / _MARKER).touch()
        config = _CONFIG.format(bundle=str(bundle.resolve()))
        write_whole(directory / "config.toml", config.encode())
    except OSError as error:
        raise UserError(
            f"Cannot create the demo in {directory}: {error.strerror or error}. Choose another"
            " --directory."
        ) from error


@contextmanager
def _daemon(config: Path, log: Path) -> Iterator[_Daemon]:
    command = [sys.executable, "-m", "her2d", "run", "--config", str(config)]
    with open(log, "wb", opener=private_opener) as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield _Daemon(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _command() -> str:
    """Return how to start this her2d, and no other, in a shell."""
    started = Path(sys.argv[0])
    on_path = shutil.which("her2d")
    if on_path is not None and started.exists() and Path(on_path).samefile(started):
        return "her2d"
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m her2d"
    return shlex.quote(str(started))


def _print_next_steps(config: Path, results: list[SlideResult]) -> None:
    browse, *others = _hints(config, results)
    say("Next, look at the slides and their heatmaps in a web browser:")
    say(f"  {browse}")
    say("Or in this terminal:")
    for line in others:
        say(f"  {line}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _hints(config: Path, results: list[SlideResult]) -> Iterator[str]:
    her2d, config_option = _command(), f"--config {shlex.quote(str(config))}"
    port = "" if _is_free(_BROWSE_PORT) else " --port 0"
    yield f"{her2d} browse{port} {config_option}"
    yield f"{her2d} results {config_option}"
    if results:
        yield f"{her2d} show {results[0].slide_id} {config_option}"
        yield f"heatmaps: {results[0].heatmap_path and Path(results[0].heatmap_path).parent}"
