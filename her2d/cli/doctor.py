"""`her2d doctor`: check the installation, and list the inference back ends."""

import json
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import BundleError
from her2d.cli.options import ConfigOption, JsonOption, configure_logging_of
from her2d.cli.tables import Column, Listing
from her2d.cli.terminal import say
from her2d.doctor.archive import archive_findings
from her2d.doctor.backups import backup_findings
from her2d.doctor.config_file import config_findings
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Finding, Severity, warning
from her2d.doctor.inboxes import inbox_findings, overlap_findings
from her2d.doctor.limits import setting_findings, unit_limit_findings
from her2d.doctor.machine import clock_finding
from her2d.doctor.models import model_findings, verified_bundle
from her2d.doctor.network import port_finding
from her2d.doctor.programs import NoAnswerError
from her2d.doctor.sandbox import cluster_sandbox_findings, sandbox_findings
from her2d.doctor.units import (
    DAEMON,
    Units,
    is_loaded,
    query_units,
    service_user,
    state_findings,
    user_finding,
    user_to_check_as,
)
from her2d.doctor.webhook import webhook_findings
from her2d.inference.backends import Candidate, candidates
from her2d.settings import Settings, find_config, load_settings
from her2d.system.ownership import permissions_of

_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.FAILURE: "bold red"}


def doctor(
    config: ConfigOption = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Also ask the nodes of [cluster], which takes a minute."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the installation and explain how to fix it.

    Checks settings, inboxes, disks, database, backups, clock, bundle, back ends, port, webhook and
    systemd's units. Run by root, it checks permissions as the user of her2d.service. Leaves no
    files behind. Exit code 1 if the daemon cannot work.
    """
    from her2d.processing.processor import engine_options

    path = find_config(config)
    settings = load_settings(path)
    configure_logging_of(settings, level="error")
    try:
        units, unknown = query_units(), []
    except NoAnswerError as error:
        units = Units()
        unknown = [warning("systemd units", str(error), "Run systemctl show her2d.")]
    user, barred = user_to_check_as(units)
    unknown += [barred] if barred is not None else []
    with nullcontext() if user is None else permissions_of(user):
        bundle = verified_bundle(settings)
        found = [*unknown, *_findings(path, settings, bundle, units)]
        if cluster:
            from her2d.doctor.cluster import cluster_findings

            found += cluster_findings(settings, bundle)
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
        say(f"\n{_summary(found)}")
    if any(finding.severity is Severity.FAILURE for finding in found):
        raise typer.Exit(1)


def _findings(
    path: Path | None, settings: Settings, bundle: Bundle | BundleError, units: Units
) -> Iterator[Finding]:
    user = service_user(units)
    as_service = user is not None and user.pw_uid == os.geteuid()
    yield from config_findings(path, settings, units)
    yield from setting_findings(settings)
    for inbox in settings.intake.inboxes:
        yield from inbox_findings(inbox, settings.intake)
    yield from overlap_findings(settings)
    yield from archive_findings(settings.intake, as_service=as_service)
    yield from storage_findings(settings, units.daemon, as_service=as_service)
    yield from backup_findings(settings.results, units, as_service=as_service)
    yield clock_finding()
    yield from model_findings(settings, bundle)
    yield port_finding(settings.ops)
    if is_loaded(units.daemon):
        yield user_finding(DAEMON, units.daemon)
    yield from state_findings(units)
    yield from sandbox_findings(settings, units)
    yield from cluster_sandbox_findings(settings.cluster, units.daemon)
    yield from unit_limit_findings(settings, units)
    yield from webhook_findings(settings.webhook, units.daemon)


def _summary(found: list[Finding]) -> str:
    """Say how many problems there are, since the table is long."""
    severities = [finding.severity for finding in found]
    failures, warnings = severities.count(Severity.FAILURE), severities.count(Severity.WARNING)
    if not failures and not warnings:
        return "No problem was found."
    return (
        f"{failures} failure{'' if failures == 1 else 's'} and {warnings}"
        f" warning{'' if warnings == 1 else 's'} are listed above."
    )


def _finding_table(found: list[Finding]) -> Listing:
    listing = Listing(
        Column("check", is_name=True),
        Column("status"),
        Column("found", is_sentence=True),
        Column("what to do", is_sentence=True),
    )
    for finding in found:
        severity = Text(finding.severity.value, style=_STYLES[finding.severity])
        listing.add(finding.check, severity, finding.message, finding.remedy or "")
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
