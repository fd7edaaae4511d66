"""Run all checks of an installation."""

from collections.abc import Iterator

from her2d.doctor.archive import archive_findings
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Finding
from her2d.doctor.inboxes import inbox_findings
from her2d.doctor.machine import clock_finding
from her2d.doctor.models import model_findings
from her2d.doctor.network import port_finding
from her2d.doctor.sandbox import unit_findings
from her2d.settings import Settings


def run_checks(settings: Settings) -> Iterator[Finding]:
    """Run one check after the other and yield each finding at once; takes some seconds."""
    for inbox in settings.intake.inboxes:
        yield from inbox_findings(inbox)
    yield from archive_findings(settings.intake)
    yield from storage_findings(settings.results)
    yield clock_finding()
    yield from model_findings(settings)
    yield port_finding(settings.ops)
    yield from unit_findings(settings)
