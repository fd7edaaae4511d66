"""The result of one check, with its remedy."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is: a `failure` stops the daemon from working, a `warning` may do so."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was checked.
        severity: how serious the problem is; `ok` if there is none.
        message: what was found, as sentences.
        remedy: what to do about it, None if there is no problem.
    """

    check: str
    severity: Severity
    message: str
    remedy: str | None = None


def ok(check: str, message: str) -> Finding:
    return Finding(check, Severity.OK, message)


def warning(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Severity.WARNING, message, remedy)


def failure(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Severity.FAILURE, message, remedy)
