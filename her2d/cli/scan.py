"""`her2d scan PATH...`: process slides in the foreground, with a progress bar."""

import json
import os
from collections.abc import Iterator
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

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, configure_logging_of, settings_of
from her2d.cli.result_tables import result_table
from her2d.db.connection import open_database
from her2d.db.migrate import migrate
from her2d.processing.identity import scan_state
from her2d.processing.records import RunClock
from her2d.queue.store import JobQueue
from her2d.results.queries import result_of_run
from her2d.results.records import SlideResult
from her2d.settings import Settings
from her2d.slides.errors import SlideError
from her2d.slides.formats.recognition import EXTENSIONS, recognise

if TYPE_CHECKING:
    from her2d.api import Scorer
    from her2d.processing.recorder import Recorder


def scan(
    paths: Annotated[list[Path], typer.Argument(help="Slides, or folders of slides.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Process slides now and print their results.

    Exit code 1 if a slide could not be processed.
    """
    from her2d.api import Scorer
    from her2d.processing.recorder import Recorder

    settings = settings_of(config)
    configure_logging_of(settings, level="error")
    files = list(_files(paths, settings))
    if (copy := migrate(settings.results.database)) is not None:
        typer.echo(f"her2d: The database was migrated. A copy from before is {copy}.", err=True)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with (
        Scorer(settings=settings) as scorer,
        Progress(
            *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
        ) as progress,
        ThreadPoolExecutor(settings.pipeline.slides_in_flight) as pool,
    ):
        recorder = Recorder(scorer.bundle, scorer.backend, settings.results.heatmaps)
        futures = {
            path: pool.submit(_scan_one, settings, scorer, recorder, path, progress)
            for path in files
        }
        try:
            outcomes = {path: _outcome(future) for path, future in futures.items()}
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            scorer.close()
            raise
    _print(outcomes, as_json)
    if any(isinstance(outcome, str) for outcome in outcomes.values()):
        raise typer.Exit(1)


def _scan_one(
    settings: Settings, scorer: "Scorer", recorder: "Recorder", path: Path, progress: Progress
) -> SlideResult:
    task = progress.add_task(path.name, total=None)
    db = open_database(settings.results.database)
    state = scan_state(path)
    try:
        clock = RunClock(queued_at=None)
        digest = scorer.processor.content_hash(path)
        clock.step_ended("hash")
        scored = scorer.processor.score(
            path,
            expected=state,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        run_id = recorder.record(db, recorder.draw(scored, digest, clock))
        return result_of_run(db, run_id)
    except SlideError as error:
        JobQueue(db).refuse(path, state, str(error))
        raise
    finally:
        db.close()
        progress.remove_task(task)


def _outcome(future: Future[SlideResult]) -> SlideResult | str:
    """Return the result, or the reason why there is none. An unexpected error is raised."""
    try:
        return future.result()
    except (SlideError, OSError) as error:
        return str(error)


def _files(paths: list[Path], settings: Settings) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(_scans_below(path, (*settings.intake.extensions, *EXTENSIONS)))
            if not found:
                raise UserError(f"There are no slides in {path}.")
            yield from found
        elif path.is_file():
            yield path.absolute()
        else:
            raise UserError(f"There is no file or folder {path}.")


def _scans_below(folder: Path, extensions: tuple[str, ...]) -> Iterator[Path]:
    """Yield the scans in a folder and below it; a folder of DICOM files is one scan."""
    for here, _, names in os.walk(folder.absolute()):
        files = [Path(here, name) for name in names]
        yield from (file for file in files if file.suffix.lower() in extensions and file.is_file())
        if recognise(Path(here)) is not None:
            yield Path(here)


def _print(outcomes: dict[Path, SlideResult | str], as_json: bool) -> None:
    results = [outcome for outcome in outcomes.values() if isinstance(outcome, SlideResult)]
    if as_json:
        rows = [
            {"path": str(path), "error": outcome}
            if isinstance(outcome, str)
            else outcome.model_dump(mode="json")
            for path, outcome in outcomes.items()
        ]
        typer.echo(json.dumps(rows, indent=2))
    elif results:
        result_table(results).print(Console())
    for path, outcome in outcomes.items():
        if isinstance(outcome, str):
            name = "" if path.name in outcome else f"{path.name}: "
            typer.echo(f"her2d: {name}{outcome}", err=True)
