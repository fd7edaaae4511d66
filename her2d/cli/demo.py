"""`her2d demo`: the daemon processes six slides of a simulated scanner."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from sqlite_utils import Database

from her2d.cli.errors import UserError
from her2d.cli.options import MOST_SEED, settings_of
from her2d.cli.result_tables import result_table
from her2d.cli.terminal import say
from her2d.db.connection import open_database
from her2d.db.place import share_problem
from her2d.queue.job import JobState
from her2d.queue.store import JobQueue
from her2d.results.listing import list_results
from her2d.results.records import SlideResult
from her2d.system.files import private_opener, write_whole

if TYPE_CHECKING:
    from her2d.simulator.plan import SlidePlan, Status

_MARKER = ".made-by-her2d-demo"
_TIMEOUT_S = 170.0
_STOP_S = 60.0
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

    Starts the daemon and a simulated scanner that writes slides into its inbox. Exit code 1 if a
    slide's HER2 status is not the simulated one.
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
        plans = _scan(daemon, inbox, seed)
        _await(daemon, db, len(plans))
    results = list_results(db)
    result_table(reversed(results)).print(Console(), wider="a wider terminal")
    _refused(db)
    say(f"{len(results)} results in {time.monotonic() - started:.0f} s. To see more:")
    for line in _hints(config, results):
        say(f"  {line}")
    db.close()
    if wrong := _wrong_calls(plans, results):
        raise UserError(" ".join(wrong))


def _plans(seed: int) -> "list[SlidePlan]":
    """Plan one slide of each common kind, small enough to be written in seconds."""
    from her2d.simulator.plan import Artefacts, plan_slide

    cases: list[tuple[str, Status, Artefacts]] = [
        ("gastric-001", "negative", Artefacts()),
        ("gastric-002", "positive", Artefacts()),
        ("gastric-003-benign", "indeterminate", Artefacts()),
        ("gastric-004-pen", "negative", Artefacts(pen_marks=1, dust=12)),
        ("gastric-005", "positive", Artefacts()),
    ]
    plans = [
        plan_slide(name, seed + n, her2_status=status, width=2816, height=2304, artefacts=artefacts)
        for n, (name, status, artefacts) in enumerate(cases)
    ]
    at_40x = plan_slide(
        "gastric-006-at-40x",
        seed + len(cases),
        her2_status="positive",
        width=1280,
        height=1024,
        magnification=40.0,
    )
    return [*plans, at_40x]


def _scan(daemon: _Daemon, inbox: Path, seed: int) -> "list[SlidePlan]":
    from her2d.simulator.scanner import run_scanner

    plans = _plans(seed)
    for delivered in run_scanner(inbox, plans, seed=seed, bytes_per_second=2e6):
        daemon.check()
        say(f"scanned  {delivered.path.name} ({delivered.style.value})")
    return plans


def _await(daemon: _Daemon, db: Database, slides: int) -> None:
    """Wait until the jobs of all slides have ended. Raises UserError if that takes too long."""
    deadline = time.monotonic() + _TIMEOUT_S
    jobs = JobQueue(db)
    while time.monotonic() < deadline:
        daemon.check()
        if sum(jobs.counts()[state] for state in _ENDED) >= slides:
            return
        time.sleep(0.3)
    raise UserError(f"The slides were not processed in time. See {daemon.log}.")


def _refused(db: Database) -> None:
    for job in JobQueue(db).in_state(JobState.QUARANTINED):
        say(f"{job.path.name} could not be processed: {job.reason}")


def _wrong_calls(plans: "list[SlidePlan]", results: list[SlideResult]) -> list[str]:
    """Return a sentence for each slide whose result is not what was simulated."""
    called = {Path(result.file_name).stem: result.her2_status for result in results}
    return [
        f"{plan.name} was simulated as {plan.her2_status},"
        f" but its result is {called.get(plan.name, 'missing')}."
        for plan in plans
        if called.get(plan.name) != plan.her2_status
    ]


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
    """Return how to start her2d in a shell."""
    if shutil.which("her2d"):
        return "her2d"
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m her2d"
    return shlex.quote(str(started))


def _hints(config: Path, results: list[SlideResult]) -> Iterator[str]:
    her2d, config_option = _command(), f"--config {shlex.quote(str(config))}"
    yield f"{her2d} results {config_option}"
    if results:
        yield f"{her2d} show {results[0].slide_id} {config_option}"
        yield f"heatmaps: {results[0].heatmap_path and Path(results[0].heatmap_path).parent}"
