"""`her2d queue ls|retry|cancel`: the files that are no result yet, and those that won't be."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.database import open_database, open_readonly
from her2d.intake import JobQueue, JobState

app = typer.Typer(help="Files on their way, and why some stopped.", no_args_is_help=True)

JobArgument = Annotated[int, typer.Argument(help="Job id, as in `her2d queue ls`.")]


@app.command("ls")
def ls(
    state: Annotated[list[JobState] | None, typer.Option(help="Only these states.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, oldest first: all but the finished ones unless states are named."""
    jobs = JobQueue(open_readonly(settings_of(config).results.database))
    states = state or [s for s in JobState if s is not JobState.DONE]
    found = jobs.in_state(*states)
    if as_json:
        rows = [
            {
                "id": job.id,
                "path": str(job.path),
                "state": job.state.value,
                "reason": job.reason,
                "attempts": job.attempts,
                "discovered_at": job.discovered_at,
            }
            for job in found
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("id", "file", "state", "attempts", "reason")
    for job in found:
        table.add_row(str(job.id), job.path.name, job.state, str(job.attempts), job.reason or "")
    Console().print(table)


@app.command("retry")
def retry(job: JobArgument, config: ConfigOption = None) -> None:
    """Queue a failed, quarantined or duplicate file once more, as if it had just settled."""
    jobs = JobQueue(open_database(settings_of(config).results.database))
    if not jobs.retry(job):
        raise UserError(f"Job {job} is not there, or has not stopped without a result.")
    typer.echo(f"Job {job} is queued.")


@app.command("cancel")
def cancel(job: JobArgument, config: ConfigOption = None) -> None:
    """Quarantine a file that is settling, queued or waiting for another try."""
    jobs = JobQueue(open_database(settings_of(config).results.database))
    if not jobs.cancel(job):
        raise UserError(f"Job {job} is not there, or not waiting any more.")
    typer.echo(f"Job {job} is cancelled.")
