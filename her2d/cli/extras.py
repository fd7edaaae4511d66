"""Say how to install the packages that a command needs and that are not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from her2d.cli.errors import UserError
from her2d.system.extras import installing, missing_modules


def require_extra(extra: str, command: str) -> None:
    """Raise UserError unless all packages of an extra are installed.

    Checked before a command begins, not when it comes to them: training takes days.

    Args:
        command: what needs them, such as "her2d train".
    """
    if missing := missing_modules(extra):
        raise _missing(command, missing, extra)


@contextmanager
def needing(command: str, extra: str | None = None) -> Iterator[None]:
    """Raise UserError for a package that is missing.

    Args:
        command: what needs it.
        extra: the extra that has it; None for what her2d always needs.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("her2d"):
            raise
        raise _missing(command, (error.name,), extra) from error


def _missing(command: str, modules: tuple[str, ...], extra: str | None) -> UserError:
    packages, them = ("packages", "them") if len(modules) > 1 else ("package", "it")
    return UserError(
        f"{command} needs the Python {packages} {', '.join(modules)}, not installed here; install"
        f" {them} with: {installing(extra)}"
    )
