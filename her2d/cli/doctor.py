"""`her2d doctor`: what keeps an installation from its work, how it is mended, and what serves."""

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from her2d.bundle.loading import load_bundle
from her2d.bundle.manifest import BundleError
from her2d.cli.options import ConfigOption, JsonOption, configure_logging_of, settings_of
from her2d.doctor.checks import check_up
from her2d.doctor.finding import Finding, Verdict
from her2d.inference.backends import Candidate, candidates
from her2d.processing.processor import engine_options
from her2d.settings import Settings

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILURE: "bold red"}


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check everything a new installation can get wrong, and say how to mend it.

    Looks at inboxes, disks, database, clock, bundle, back ends, port and systemd's sandbox; writes
    nothing that stays. Exit code 1 where something keeps the daemon from its work.
    """
    settings = settings_of(config)
    configure_logging_of(settings, level="error")
    found = list(check_up(settings))
    backends = _candidates(settings)
    if as_json:
        document = {
            "findings": [asdict(finding) for finding in found],
            "backends": [asdict(backend) for backend in backends],
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        console = Console(markup=False)
        console.print(_finding_table(found))
        console.print(_backend_table(backends))
    if any(finding.verdict is Verdict.FAILURE for finding in found):
        raise typer.Exit(1)


def _candidates(settings: Settings) -> tuple[Candidate, ...]:
    try:
        bundle = load_bundle(settings.bundle.path)
    except BundleError:
        bundle = None  # told as a finding; the back ends are of interest all the same
    return candidates(bundle, engine_options(settings))


def _finding_table(found: list[Finding]) -> Table:
    table = Table(
        Column("check", overflow="fold"),
        Column("", no_wrap=True),
        Column("found", overflow="fold"),
        Column("what to do", overflow="fold"),
    )
    for finding in found:
        verdict = Text(finding.verdict.value, style=_STYLES[finding.verdict])
        table.add_row(finding.check, verdict, finding.said, finding.remedy or "")
    return table


def _backend_table(backends: tuple[Candidate, ...]) -> Table:
    table = Table(
        Column("back end", no_wrap=True),
        "usable",
        Column("reason", overflow="fold"),
        title="Inference back ends, best first",
    )
    for backend in backends:
        table.add_row(backend.name, "yes" if backend.usable else "no", backend.reason)
    return table
