"""Everything a new installation can get wrong, looked at before a scan depends on it."""

from collections.abc import Iterator

from her2d.doctor.archive import archive_findings
from her2d.doctor.database import storage_findings
from her2d.doctor.finding import Finding, Verdict
from her2d.doctor.inboxes import inbox_findings
from her2d.doctor.machine import clock_finding
from her2d.doctor.models import model_findings
from her2d.doctor.network import port_finding
from her2d.doctor.sandbox import unit_findings
from her2d.settings import Settings

__all__ = ["Finding", "Verdict", "check_up"]


def check_up(settings: Settings) -> Iterator[Finding]:
    """Check one thing after the other, each found as it is; takes some seconds."""
    for inbox in settings.intake.inboxes:
        yield from inbox_findings(inbox)
    yield from archive_findings(settings.intake)
    yield from storage_findings(settings.results)
    yield clock_finding()
    yield from model_findings(settings)
    yield port_finding(settings.ops)
    yield from unit_findings(settings)
