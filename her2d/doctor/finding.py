"""One thing that was checked, how it is, and how it is mended."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """`failure` keeps the daemon from its work; `warning` may, one day."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `remedy` is what to do, None where all is well."""

    check: str
    verdict: Verdict
    said: str
    remedy: str | None = None


def ok(check: str, said: str) -> Finding:
    return Finding(check, Verdict.OK, said)


def warning(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, Verdict.WARNING, said, remedy)


def failure(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, Verdict.FAILURE, said, remedy)
