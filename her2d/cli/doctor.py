"""`her2d doctor`: check the installation, and list the inference back ends."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.console import Console
from rich.text import Text

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import BundleError
from her2d.cli.options import ConfigOption, JsonOption, configure_logging_of, settings_of
from her2d.cli.tables import Column, Listing
from her2d.cli.terminal import say
from her2d.doctor.archive import archive_findings
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Finding, Verdict
from her2d.doctor.inboxes import inbox_findings
from her2d.doctor.machine import clock_finding
from her2d.doctor.models import model_findings, verified_bundle
from her2d.doctor.network import port_finding
from her2d.doctor.sandbox import unit_findings
from her2d.inference.backends import Candidate, candidates
from her2d.intake.discovery import ScanRules
from her2d.settings import Settings

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILURE: "bold red"}


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the installation and explain how to fix it.

    Checks inboxes, disks, database, clock, bundle, back ends, port and systemd's sandbox. Leaves no
    files behind. Exit code 1 if the daemon cannot work.
    """
    from her2d.processing.processor import engine_options

    settings = settings_of(config)
    configure_logging_of(settings, level="error")
    bundle = verified_bundle(settings)
    found = list(_findings(settings, bundle))
    # A finding reports a bundle that cannot be used; the back ends are listed without it.
    usable = None if isinstance(bundle, BundleError) else bundle
    backends = candidates(usable, engine_options(settings))
    if as_json:
        document = {
            "findings": [asdict(finding) for finding in found],
            "backends": [asdict(backend) for backend in backends],
        }
        say(json.dumps(document, indent=2))
    else:
        _finding_table(found).print(Console())
        say()
        _backend_table(backends).print(Console())
    if any(finding.verdict is Verdict.FAILURE for finding in found):
        raise typer.Exit(1)


def _findings(settings: Settings, bundle: Bundle | BundleError) -> Iterator[Finding]:
    for inbox in settings.intake.inboxes:
        yield from inbox_findings(inbox, ScanRules.of(settings.intake))
    yield from archive_findings(settings.intake)
    yield from storage_findings(settings.results)
    yield clock_finding()
    yield from model_findings(settings, bundle)
    yield port_finding(settings.ops)
    yield from unit_findings(settings)


def _finding_table(found: list[Finding]) -> Listing:
    listing = Listing(
        Column("check", is_name=True),
        Column("status"),
        Column("found", is_sentence=True),
        Column("what to do", is_sentence=True),
    )
    for finding in found:
        verdict = Text(finding.verdict.value, style=_STYLES[finding.verdict])
        listing.add(finding.check, verdict, finding.message, finding.remedy or "")
    return listing


def _backend_table(backends: tuple[Candidate, ...]) -> Listing:
    listing = Listing(
        Column("back end", is_name=True),
        Column("usable"),
        Column("reason", is_sentence=True),
        title="Inference back ends, best first",
    )
    for backend in backends:
        listing.add(backend.name, "yes" if backend.usable else "no", backend.reason)
    return listing
