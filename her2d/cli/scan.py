"""`her2d scan PATH...`: process slides in the foreground, with a progress bar."""

import json
import sqlite3
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from her2d.cli.actor import actor
from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, configure_logging_of, settings_of
from her2d.cli.result_tables import result_table
from her2d.cli.slide_files import Unusable, slide_files
from her2d.cli.terminal import say, say_error
from her2d.db.absence import require_not_lost
from her2d.db.connection import open_database
from her2d.db.migrate import migrate
from her2d.db.place import share_problem
from her2d.errors import Her2dError
from her2d.processing.identity import open_scan
from her2d.queue.store import JobQueue, problem_of_name
from her2d.results.queries import result_of_run
from her2d.results.records import SlideResult
from her2d.settings import Settings
from her2d.slides.errors import SlideError
from her2d.slides.formats.recognition import EXTENSIONS
from her2d.system.imports import importing_much
from her2d.system.text import printable, readable_text

if TYPE_CHECKING:
    from her2d.processing.processor import SlideProcessor
    from her2d.processing.recorder import Recorder

Outcome = SlideResult | str | Exception
"""A result, the sentence that says why there is none, or an unexpected error."""


def scan(
    paths: Annotated[list[Path], typer.Argument(help="Slides, or folders of slides.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Process slides now and print their results.

    Exit code 1 if a slide could not be processed.
    """
    settings = settings_of(config)
    configure_logging_of(settings, level="error")
    outcomes: dict[Path, Outcome] = {}
    files = []
    for found in slide_files(paths, (*settings.intake.extensions, *EXTENSIONS)):
        if isinstance(found, Unusable):
            outcomes[found.path] = found.reason
        else:
            files.append(found)
    if files:
        outcomes |= _scan_all(settings, files)
    _print(outcomes, as_json)
    for outcome in outcomes.values():
        if isinstance(outcome, Exception):
            raise outcome
    if any(isinstance(outcome, str) for outcome in outcomes.values()):
        raise typer.Exit(1)


def _scan_all(settings: Settings, files: list[Path]) -> "dict[Path, Outcome]":
    # Importing the pipeline takes half a second, which `--help` need not wait for.
    with importing_much():
        from her2d.bundle.loading import load_bundle
        from her2d.bundle.site_calibration import with_calibration
        from her2d.inference.self_test import self_test
        from her2d.processing.processor import open_processor
        from her2d.processing.recorder import Recorder

    results = settings.results
    if (problem := share_problem(results.database)) is not None:
        say(f"her2d: {problem} Use it from this machine only, and keep backups.", err=True)
    require_not_lost(results.database, results.heatmaps, results.backups)
    if (copy := migrate(results.database)) is not None:
        say(f"her2d: The database was migrated. A copy from before is {copy}.", err=True)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    bundle = with_calibration(load_bundle(settings.bundle.path), settings.bundle.calibration)
    # The first tile of one slide tests the engine. Of many slides, a broken one would fail each.
    check = self_test if files[1:] else lambda _: None
    with (
        open_processor(bundle, settings, check=check) as processor,
        Progress(
            *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
        ) as progress,
        ThreadPoolExecutor(settings.pipeline.slides_in_flight) as pool,
    ):
        who = actor("scan")
        recorder = Recorder(bundle, processor.software, settings.results.heatmaps, who)
        cancel = threading.Event()
        futures = {
            path: pool.submit(_scan_one, settings, processor, recorder, path, progress, who, cancel)
            for path in files
        }
        try:
            return {path: _outcome(path, future) for path, future in futures.items()}
        except KeyboardInterrupt:
            cancel.set()
            pool.shutdown(wait=False, cancel_futures=True)
            processor.pipeline.close()
            raise


def _scan_one(
    settings: Settings,
    processor: "SlideProcessor",
    recorder: "Recorder",
    path: Path,
    progress: Progress,
    who: str,
    cancel: threading.Event,
) -> SlideResult:
    from her2d.processing.records import RunClock
    from her2d.slides.barcode_of_file import barcode_of_file

    task = progress.add_task(printable(path.name), total=None)
    db = open_database(settings.results.database)
    try:
        with open_scan(path) as file:
            if (reason := problem_of_name(path)) is not None:
                JobQueue(db, who).refuse(path, file.state, reason, barcode=barcode_of_file(path))
                raise UserError(reason)
            clock = RunClock(queued_at=None)
            try:
                digest, scored = processor.hash_and_score(
                    file,
                    lambda _: clock.step_ended("hash"),
                    cancel=cancel,
                    progress=lambda done, total: progress.update(task, completed=done, total=total),
                )
            except SlideError as error:
                barcode = barcode_of_file(path)
                JobQueue(db, who).refuse(path, file.state, str(error), barcode=barcode)
                raise
        run_id = recorder.record(db, recorder.draw(scored, digest, clock))
        return result_of_run(db, run_id)
    finally:
        db.close()
        progress.remove_task(task)


def _outcome(path: Path, future: Future[SlideResult]) -> Outcome:
    """Return the result, or the sentence that says why there is none, as the daemon words it.

    An unforeseen error, and the loss of the GPU, are returned as they are, so that the outcomes of
    the other slides are printed before they are raised.
    """
    from her2d.inference.engine import DeviceLostError

    name = path.name
    try:
        return future.result()
    except sqlite3.Error as error:
        return f"{name} has no result, because the database cannot be changed: {error}."
    except DeviceLostError as error:
        return error
    except Exception as error:  # noqa: BLE001  an unforeseen one is raised later
        from her2d.processing.retry_policy import JobFile, decide

        decision = decide(error, JobFile(path, is_swept=True))
        if decision.is_unforeseen and not isinstance(error, Her2dError):
            return error
        reason = str(error) if decision.is_unforeseen else decision.reason
        return reason if reason.startswith(name) else f"{name}: {reason}"


def _print(outcomes: dict[Path, Outcome], as_json: bool) -> None:
    results = [outcome for outcome in outcomes.values() if isinstance(outcome, SlideResult)]
    if as_json:
        rows = [
            outcome.model_dump(mode="json")
            if isinstance(outcome, SlideResult)
            else {"path": readable_text(str(path)), "error": readable_text(str(outcome))}
            for path, outcome in outcomes.items()
        ]
        say(json.dumps(rows, indent=2))
    elif results:
        result_table(results).print(Console())
    for outcome in outcomes.values():
        if isinstance(outcome, str):
            say_error(readable_text(outcome))
