"""The `her2d` command and its sub-commands. An expected error is one line on stderr."""

import sqlite3
import sys

import typer

from her2d import __version__
from her2d.cli.errors import end_at_once, is_device_lost, sentence_of
from her2d.cli.lazy_group import LazyCommand, lazy_group
from her2d.cli.terminal import say, say_error
from her2d.errors import Her2dError

COMMANDS = tuple(
    LazyCommand(name, f"her2d.cli.{place}", summary)
    for name, place, summary in (
        ("demo", "demo:demo", "Process six simulated slides and print their results."),
        ("run", "run:run", "Run the daemon until it is stopped."),
        ("scan", "scan:scan", "Process slides now and print their results."),
        ("prepare", "prepare:prepare", "Write the labelled tiles of a cohort."),
        ("results", "results:results", "List the current result of each slide, newest first."),
        ("show", "results:show", "Print everything that is known about one slide."),
        ("heatmap", "results:heatmap", "Print the path of a slide's heatmap, or copy the file."),
        ("compile", "compile:compile_", "Compile a bundle for one back end."),
        ("doctor", "doctor:doctor", "Check the installation and explain how to fix it."),
        ("export", "export:export", "Write a slide's result to a file for other programs."),
        ("browse", "browse:browse", "Show results in a web browser on this machine."),
        ("compare", "compare:compare", "Compare two bundles on the slides that both have scored."),
        (
            "calibrate",
            "calibrate:calibrate",
            "Calibrate the bundle on the laboratory's own slides.",
        ),
        (
            "backfill",
            "backfill:backfill",
            "Score folders of older scans after new ones, and show progress.",
        ),
        ("queue", "queue:app", "List, retry, cancel and reorder jobs."),
        ("outcomes", "outcomes:app", "Import and list IHC and FISH results of slides."),
        ("bundle", "bundle:app", "Show, verify and build model bundles."),
        ("config", "config:app", "Print, check and reload the settings."),
        ("db", "db:app", "Back up, restore, check and maintain the database."),
        ("webhook", "webhook:app", "Send events again, or describe what is sent."),
        ("simulate", "simulate:app", "Write simulated slides with ground truth."),
        ("train", "train:app", "Train the models of a prepared study."),
        ("evaluate", "evaluate:app", "Measure a study's models on its test sets."),
    )
)
"""All commands, in the order of the help page. Each is imported when it is used."""

app = typer.Typer(
    name="her2d",
    cls=lazy_group(COMMANDS),
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


def main(command: typer.Typer = app) -> None:
    """Run a command. An expected error is printed as one sentence, with exit code 1."""
    try:
        command()
    except (Her2dError, sqlite3.Error) as error:
        if (sentence := sentence_of(error)) is None:
            raise
        say_error(sentence)
        if is_device_lost(error):
            end_at_once(1)
        sys.exit(1)
    except BrokenPipeError:
        # The reader (such as `| head`) closed the pipe. Open, stderr would get a second error from
        # Python when it flushes stdout at exit.
        sys.stderr.close()
        sys.exit(1)
