"""The `her2d` command and its sub-commands. An expected error is one line on stderr."""

import sqlite3
import sys

import typer

from her2d import __version__
from her2d.cli import (
    browse,
    bundle,
    calibrate,
    compare,
    config,
    db,
    demo,
    doctor,
    evaluate,
    export,
    outcomes,
    prepare,
    queue,
    results,
    run,
    scan,
    simulate,
    train,
    webhook,
)
from her2d.cli.compile import compile_
from her2d.cli.errors import EXPECTED_ERRORS
from her2d.cli.terminal import say, say_error

app = typer.Typer(
    name="her2d",
    help="Read HER2 status from gastric-cancer H&E whole-slide images. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"her2d {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("scan")(scan.scan)
app.command("prepare")(prepare.prepare)
app.command("results")(results.results)
app.command("show")(results.show)
app.command("heatmap")(results.heatmap)
app.command("compile")(compile_)
app.command("doctor")(doctor.doctor)
app.command("export")(export.export)
app.command("browse")(browse.browse)
app.command("compare")(compare.compare)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(queue.app, name="queue")
app.add_typer(outcomes.app, name="outcomes")
app.add_typer(bundle.app, name="bundle")
app.add_typer(config.app, name="config")
app.add_typer(db.app, name="db")
app.add_typer(webhook.app, name="webhook")
app.add_typer(simulate.app, name="simulate")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")


def main(command: typer.Typer = app) -> None:
    """Run a command. An expected error is printed as one sentence, with exit code 1."""
    try:
        command()
    except EXPECTED_ERRORS as error:
        say_error(error)
        sys.exit(1)
    except sqlite3.Error as error:
        say_error(f"The database cannot be used: {error}. her2d db check looks for damage.")
        sys.exit(1)
    except BrokenPipeError:
        # The reader (such as `| head`) closed the pipe. Open, stderr would get a second error from
        # Python when it flushes stdout at exit.
        sys.stderr.close()
        sys.exit(1)
