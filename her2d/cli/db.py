"""`her2d db backup|check|migrate|prune|restore|vacuum`: care of the database."""

from pathlib import Path
from typing import Annotated

import typer

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, settings_of
from her2d.db.backup import back_up, drop_old_backups
from her2d.db.connection import open_existing, require_there, schema_version
from her2d.db.integrity import problems
from her2d.db.migrate import migrate
from her2d.db.prune import prune_tiles
from her2d.db.restore import restore
from her2d.db.vacuum import give_back, vacuum

app = typer.Typer(
    help="Back up, restore, check, prune, vacuum and migrate the database.", no_args_is_help=True
)

_WORTH_TELLING = 1_000_000
_LONGEST_DAYS = 36_500


@app.command("backup")
def backup(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of the backups; made if missing. Default: [results] backups."),
    ] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Delete all but so many.")] = None,
    config: ConfigOption = None,
) -> None:
    """Copy the database as it is at this moment, check the copy, and print its path."""
    settings = settings_of(config).results
    folder = folder or settings.backups
    typer.echo(back_up(settings.database, folder))
    if keep is not None:
        for path in drop_old_backups(folder, keep):
            typer.echo(f"deleted {path}")


@app.command("restore")
def restore_(
    backup: Annotated[Path, typer.Argument(help="What `her2d db backup` made.")],
    config: ConfigOption = None,
) -> None:
    """Put a backup in the database's place, while no daemon runs; the old one is kept beside it."""
    database = settings_of(config).results.database
    aside = restore(backup, database)
    typer.echo(f"{database} is as {backup} has it.")
    if aside is not None:
        typer.echo(f"What it was is {aside}; delete that when it is of no more use.")


@app.command("check")
def check(config: ConfigOption = None) -> None:
    """Let SQLite look for damage; exit 1 where it finds any, or where it is not her2d's."""
    database = settings_of(config).results.database
    if found := problems(database):
        raise UserError(f"{database} is damaged: {'; '.join(found[:5])}.")
    schema_version(database)
    typer.echo(f"{database} is sound.")


@app.command("prune")
def prune(
    days: Annotated[
        float | None,
        typer.Option(help="Keep tile rows so long. Default: [results] keep_tiles_days."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Delete the tile rows of old runs, and give their space back; the results themselves stay."""
    settings = settings_of(config).results
    if days is not None and not 0 <= days <= _LONGEST_DAYS:
        raise UserError(f"--days must be 0 to {_LONGEST_DAYS}, not {days:g}.")
    keep_days = days if days is not None else settings.keep_tiles_days
    if keep_days is None:
        typer.echo("Nothing to prune: tile rows are kept for good (no keep_tiles_days is set).")
        return
    db = open_existing(settings.database)
    try:
        found = prune_tiles(db, keep_days)
        free = give_back(db)
    finally:
        db.close()
    typer.echo(f"{found.tiles} tile rows of {found.runs} runs were deleted.")
    if free > _WORTH_TELLING:
        typer.echo(
            f"{free / 1e6:.0f} MB in {settings.database} are free for new results;"
            " her2d db vacuum, once, has them given back to the disk."
        )


@app.command("vacuum")
def vacuum_(config: ConfigOption = None) -> None:
    """Rewrite the database without its free space; takes room for two copies while it works.

    Needed once, for a database older than her2d's incremental vacuum: from then on prune gives
    space back by itself. A daemon may run; what it wants to write meanwhile waits.
    """
    database = settings_of(config).results.database
    sizes = vacuum(database)
    typer.echo(f"{database}: {sizes.before / 1e6:.1f} MB -> {sizes.after / 1e6:.1f} MB")


@app.command("migrate")
def migrate_(
    copy_to: Annotated[
        Path | None,
        typer.Option(help="Folder of the copy made before. Default: beside the database."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Bring the schema up to date, after a copy, as `her2d run` does at its start."""
    database = settings_of(config).results.database
    require_there(database)
    before = schema_version(database)
    if (copy := migrate(database, copy_to)) is not None:
        typer.echo(f"What it was is {copy}; delete that when it is of no more use.")
    typer.echo(f"{database}: schema {before} -> {schema_version(database)}")
