"""`her2d db backup|check|create|history|migrate|prune|restore|vacuum`: maintain the database."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from her2d.cli.actor import actor
from her2d.cli.errors import UserError
from her2d.cli.options import MOST_LISTED, ConfigOption, JsonOption, settings_of
from her2d.cli.result_tables import act_table
from her2d.cli.terminal import say
from her2d.db.acts import record_act
from her2d.db.backup import back_up, drop_old_backups
from her2d.db.connection import (
    open_database,
    open_existing,
    open_readonly,
    require_database,
    schema_version,
)
from her2d.db.integrity import problems
from her2d.db.migrate import migrate
from her2d.db.prune import prune_tiles
from her2d.db.restore import restore
from her2d.db.vacuum import return_free_pages, vacuum
from her2d.results.history import acts_of_persons

app = typer.Typer(help="Back up, restore, check and maintain the database.", no_args_is_help=True)

_MIN_REPORTED_BYTES = 1_000_000
_LONGEST_DAYS = 36_500


@app.command("create")
def create(config: ConfigOption = None) -> None:
    """Create an empty database.

    her2d run and her2d scan create the first one themselves. They refuse if there was one before,
    because its disk may not be mounted.
    """
    database = settings_of(config).results.database
    if database.exists() and database.stat().st_size > 0:
        raise UserError(f"{database} already exists.")
    with closing(open_database(database)) as db:
        record_act(db, "created", f"As {database}.", actor("db create"))
    say(f"Created {database}.")


@app.command("backup")
def backup(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder for backups; created if missing. Default: [results] backups."),
    ] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Delete all but this many.")] = None,
    config: ConfigOption = None,
) -> None:
    """Copy the database, check the copy, print its path."""
    settings = settings_of(config).results
    folder = folder or settings.backups
    say(back_up(settings.database, folder))
    if keep is not None:
        for path in drop_old_backups(folder, keep):
            say(f"deleted {path}")


@app.command("restore")
def restore_(
    backup: Annotated[Path, typer.Argument(help="A file that `her2d db backup` wrote.")],
    config: ConfigOption = None,
) -> None:
    """Replace the database with a backup.

    The daemon must be stopped. The previous database is kept beside the restored one.
    """
    database = settings_of(config).results.database
    aside = restore(backup, database, actor("db restore"))
    say(f"Restored {database} from {backup}.")
    if aside is not None:
        say(f"The previous database is {aside}. Delete it when it is no longer needed.")


@app.command("check")
def check(config: ConfigOption = None) -> None:
    """Check the database for damage.

    Exit code 1 if SQLite finds any, or if the file is not a database of her2d.
    """
    database = settings_of(config).results.database
    if found := problems(database):
        raise UserError(f"{database} is damaged: {'; '.join(found[:5])}.")
    schema_version(database)
    say(f"No damage was found in {database}.")


@app.command("prune")
def prune(
    days: Annotated[
        float | None,
        typer.Option(help="Delete those older than this. Default: [results] keep_tiles_days."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Delete the tile rows of old runs.

    The results themselves stay. Free space is returned to the disk, if the database uses
    incremental vacuum.
    """
    settings = settings_of(config).results
    if days is not None and not 0 <= days <= _LONGEST_DAYS:
        raise UserError(f"--days must be 0 to {_LONGEST_DAYS}, not {days:g}.")
    keep_days = days if days is not None else settings.keep_tiles_days
    if keep_days is None:
        say("Nothing to prune: [results] keep_tiles_days is not set.")
        return
    db = open_existing(settings.database)
    try:
        found = prune_tiles(db, keep_days)
        if found.runs:
            record_act(
                db,
                "pruned",
                f"{found.tiles} tile rows of {found.runs} runs older than {keep_days:g} days.",
                actor("db prune"),
            )
        free = return_free_pages(db)
    finally:
        db.close()
    say(f"Deleted {found.tiles} tile rows of {found.runs} runs.")
    if free > _MIN_REPORTED_BYTES:
        say(
            f"{free / 1e6:.0f} MB in {settings.database} are free for new results."
            " To return them to the disk, run her2d db vacuum once."
        )


@app.command("vacuum")
def vacuum_(config: ConfigOption = None) -> None:
    """Rewrite the database without its free space.

    Needs disk space for two copies while it works. It is needed once, for a database from before
    her2d used incremental vacuum; after that, prune returns free space itself. The daemon may run;
    its writes wait meanwhile.
    """
    database = settings_of(config).results.database
    sizes = vacuum(database)
    _record(database, "db vacuum", "vacuumed", f"{sizes.before} -> {sizes.after} bytes.")
    say(f"Vacuumed {database}: {sizes.before / 1e6:.1f} MB -> {sizes.after / 1e6:.1f} MB.")


@app.command("migrate")
def migrate_(
    copy_to: Annotated[
        Path | None,
        typer.Option(help="Folder for the copy. Default: that of the database."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Copy the database, then update its schema.

    `her2d run` does the same when it starts.
    """
    database = settings_of(config).results.database
    require_database(database)
    before = schema_version(database)
    if (copy := migrate(database, copy_to)) is not None:
        say(f"A copy from before is {copy}. Delete it when it is no longer needed.")
    if copy is not None:
        _record(
            database, "db migrate", "migrated", f"Schema {before} -> {schema_version(database)}."
        )
    say(f"Migrated {database}: schema {before} -> {schema_version(database)}.")


@app.command("history")
def history(
    limit: Annotated[int, typer.Option(min=1, max=MOST_LISTED, help="How many.")] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what persons did, newest first.

    Every command that changes a job, a result or the database is recorded with its user.
    """
    with closing(open_readonly(settings_of(config).results.database)) as db:
        found = acts_of_persons(db, limit)
    if as_json:
        say(json.dumps([asdict(act) for act in found], indent=2))
    elif found:
        act_table(found).print(Console())
    else:
        say("Nobody has changed anything.")


def _record(database: Path, command: str, name: str, detail: str) -> None:
    with closing(open_existing(database)) as db:
        record_act(db, name, detail, actor(command))
