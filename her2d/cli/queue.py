"""`her2d queue`: files on their way, and those that stopped."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from her2d.bundle.loading import load_bundle
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.db.connection import DatabaseError, open_existing, open_readonly
from her2d.queue import operator
from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue
from her2d.settings import Settings

app = typer.Typer(help="Files on their way, and why some stopped.", no_args_is_help=True)

_OVER = (JobState.DONE, JobState.VANISHED)

JobArgument = Annotated[int, typer.Argument(help="Job id, as in `her2d queue ls`.")]


@app.command("ls")
def ls(
    state: Annotated[list[JobState] | None, typer.Option(help="Only these states.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, oldest first: all but done and vanished ones unless states are named."""
    states = state or [s for s in JobState if s not in _OVER]
    with closing(open_readonly(settings_of(config).results.database)) as db:
        found = JobQueue(db).in_state(*states)
    if as_json:
        typer.echo(json.dumps([_row(job) for job in found], indent=2))
        return
    table = Table(
        Column("id", justify="right"),
        Column("file", overflow="fold"),
        Column("state", no_wrap=True),
        "priority",
        "attempts",
        Column("reason", overflow="fold", min_width=16),
    )
    for job in found:
        table.add_row(
            str(job.id),
            job.path.name,
            job.state,
            str(job.priority),
            str(job.attempts),
            job.reason or "",
        )
    Console(markup=False).print(table)


@app.command("retry")
def retry(job: JobArgument, config: ConfigOption = None) -> None:
    """Queue a failed, quarantined, duplicate or vanished file once more, with all its attempts."""
    with _queue(settings_of(config)) as jobs:
        operator.retry(jobs, job)
    typer.echo(f"Job {job} is queued.")


@app.command("cancel")
def cancel(job: JobArgument, config: ConfigOption = None) -> None:
    """Quarantine a file that is settling, queued or waiting for another try."""
    with _queue(settings_of(config)) as jobs:
        operator.cancel(jobs, job)
    typer.echo(f"Job {job} is cancelled.")


@app.command("forget")
def forget_(job: JobArgument, config: ConfigOption = None) -> None:
    """Take a quarantined or duplicate file that is gone off the list; nothing is deleted.

    Its job becomes `vanished`, and its history stays: `her2d queue ls --state vanished`.
    """
    with _queue(settings_of(config)) as jobs:
        operator.forget(jobs, job)
    typer.echo(f"Job {job} is forgotten.")


@app.command("priority", context_settings={"ignore_unknown_options": True})
def priority(
    job: JobArgument,
    number: Annotated[
        int, typer.Argument(help="Higher runs first; new scans have 0, back-fill has -10.")
    ],
    config: ConfigOption = None,
) -> None:
    """Move a waiting file forward or back."""
    with _queue(settings_of(config)) as jobs:
        operator.prioritise(jobs, job, number)
    typer.echo(f"Job {job} has priority {number}.")


@app.command("reprocess")
def reprocess(
    job: Annotated[
        int | None, typer.Argument(help="Only this finished job. Default: every slide.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Queue slides that have no result by the bundle in config.toml; their old results are kept."""
    settings = settings_of(config)
    digest = load_bundle(settings.bundle.path).digest
    with _queue(settings) as jobs:
        queued = operator.reprocess(jobs, digest, job)
    typer.echo(f"{len(queued)} slides are queued.")


@contextmanager
def _queue(settings: Settings) -> Iterator[JobQueue]:
    """The queue, to change it. Raises DatabaseError where the database will not have the change."""
    database = settings.results.database
    with closing(open_existing(database)) as db:
        try:
            yield JobQueue(db)
        except sqlite3.Error as error:
            raise DatabaseError(f"The database {database} refused: {error}.") from error


def _row(job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "path": str(job.path),
        "state": job.state.value,
        "reason": job.reason,
        "attempts": job.attempts,
        "priority": job.priority,
        "interruptions": job.interruptions,
        "discovered_at": job.discovered_at,
        "queued_at": job.queued_at,
        "heartbeat_at": job.heartbeat_at,
        "overdue_at": job.overdue_at,
        "slide_id": job.slide_id,
        "archived_path": str(job.archived_path) if job.archived_path else None,
    }
