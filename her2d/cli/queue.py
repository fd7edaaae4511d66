"""`her2d queue`: list and change jobs."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated

import typer
from rich.console import Console

from her2d.cli.actor import actor
from her2d.cli.options import MOST_ID, ConfigOption, JsonOption, settings_of
from her2d.cli.tables import Column, Listing
from her2d.cli.terminal import say
from her2d.db.connection import changing, open_readonly
from her2d.queue import operator
from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue
from her2d.settings import Settings

app = typer.Typer(help="List, retry, cancel and reorder jobs.", no_args_is_help=True)

MOST_PRIORITY = 1_000_000_000
_FINISHED = (JobState.DONE, JobState.VANISHED)

JobArgument = Annotated[
    int, typer.Argument(min=-MOST_ID, max=MOST_ID, help="Job id, as in `her2d queue ls`.")
]


@app.command("ls")
def ls(
    state: Annotated[
        list[JobState] | None,
        typer.Option(
            metavar="STATE", help=f"Only jobs in this state, repeatable: {', '.join(JobState)}."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, oldest first.

    Without --state, all jobs that are neither done nor vanished.
    """
    states = state or [s for s in JobState if s not in _FINISHED]
    with closing(open_readonly(settings_of(config).results.database)) as db:
        found = JobQueue(db).in_state(*states)
    if as_json:
        say(json.dumps([_row(job) for job in found], indent=2))
        return
    if not found:
        say("No jobs match.")
        return
    listing = Listing(
        Column("id", drop=3, right=True),
        Column("file", is_name=True),
        Column("state"),
        Column("priority", drop=2, right=True),
        Column("attempts", drop=1, right=True),
        Column("reason", is_sentence=True),
    )
    for job in found:
        listing.add(
            str(job.id),
            job.path.name,
            job.state,
            str(job.priority),
            str(job.attempts),
            job.reason or "",
        )
    listing.print(Console())


@app.command("retry")
def retry(job: JobArgument, config: ConfigOption = None) -> None:
    """Queue a stopped file again.

    For failed, quarantined, cancelled, duplicate and vanished files. Attempts are counted from 0
    again.
    """
    with _queue(settings_of(config), "retry") as jobs:
        operator.retry(jobs, job)
    say(f"Job {job} is queued.")


@app.command("cancel")
def cancel(job: JobArgument, config: ConfigOption = None) -> None:
    """Cancel a file that is waiting, and leave it where it is.

    It may be settling, queued, or failed and waiting for its next attempt. If the file changes, it
    is a new scan.
    """
    from her2d.slides.barcode_of_file import barcode_of_file

    with _queue(settings_of(config), "cancel") as jobs:
        operator.cancel(jobs, job, barcode_of=barcode_of_file)
    say(f"Job {job} is cancelled.")


@app.command("forget")
def forget_(job: JobArgument, config: ConfigOption = None) -> None:
    """Remove a file that no longer exists from the list.

    For quarantined, cancelled and duplicate files. Nothing is deleted: the job becomes vanished,
    and its history stays (`her2d queue ls --state vanished`).
    """
    with _queue(settings_of(config), "forget") as jobs:
        operator.forget(jobs, job)
    say(f"Job {job} is forgotten.")


@app.command("priority", context_settings={"ignore_unknown_options": True})
def priority(
    job: JobArgument,
    number: Annotated[
        int,
        typer.Argument(
            min=-MOST_PRIORITY,
            max=MOST_PRIORITY,
            help="Higher runs first. New scans have 0, back-fill has -10.",
        ),
    ],
    config: ConfigOption = None,
) -> None:
    """Change the priority of a waiting file."""
    with _queue(settings_of(config), "priority") as jobs:
        operator.prioritise(jobs, job, number)
    say(f"Job {job} has priority {number}.")


@app.command("reprocess")
def reprocess(
    job: Annotated[
        int | None,
        typer.Argument(
            max=MOST_ID, help="Only the slide of this finished job. Default: all slides."
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Queue slides that the current bundle has not scored.

    The current bundle is the one in config.toml. Old results are kept.
    """
    settings = settings_of(config)
    from her2d.bundle.loading import load_bundle  # which no other command of jobs needs

    digest = load_bundle(settings.bundle.path).digest
    with _queue(settings, "reprocess") as jobs:
        queued = operator.reprocess(jobs, digest, job)
    say(f"Queued {len(queued)} slide{'' if len(queued) == 1 else 's'}.")


@contextmanager
def _queue(settings: Settings, command: str) -> Iterator[JobQueue]:
    """Open the queue for changes by a command. Raises DatabaseError if it cannot be changed."""
    with changing(settings.results.database) as db:
        yield JobQueue(db, actor(f"queue {command}"))


def _row(job: Job) -> dict[str, object]:
    return {
        "id": job.id,
        "path": str(job.path),
        "state": job.state.value,
        "reason": job.reason,
        "attempts": job.attempts,
        "priority": job.priority,
        "interruptions": job.interruptions,
        "unreadable_on": list(job.unreadable_on),
        "discovered_at": job.discovered_at,
        "queued_at": job.queued_at,
        "heartbeat_at": job.heartbeat_at,
        "overdue_at": job.overdue_at,
        "slide_id": job.slide_id,
        "archived_path": str(job.archived_path) if job.archived_path else None,
    }
