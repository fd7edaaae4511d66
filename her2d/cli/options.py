"""Options that several commands share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from her2d.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from her2d.monitoring.pseudonyms import Pseudonyms

MOST_ID = 2**63 - 1
"""The largest integer of SQLite, and so the largest id."""
MOST_SEED = 2**31
MOST_LISTED = 1_000_000_000
"""Of rows on a page, and of pages; their product must be an integer of SQLite."""

Level = Literal["debug", "info", "warning", "error"]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings file. Default: HER2D_CONFIG, ./config.toml, /etc/her2d/config.toml.",
    ),
]
StudyOption = Annotated[Path, typer.Option(help="The study's folder; created if missing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def settings_of(config: Path | None) -> Settings:
    """Load the settings for a command. Raises SettingsError."""
    return load_settings(find_config(config))


def configure_logging_of(settings: Settings, *, level: Level | None = None) -> "Pseudonyms | None":
    """Configure logging; return the pseudonyms if the settings have a key for them, else None.

    Args:
        level: the lowest to log, instead of that in the settings.
    """
    from her2d.monitoring.log import configure_logging
    from her2d.monitoring.pseudonyms import Pseudonyms

    ops = settings.ops
    pseudonyms = None
    if ops.pseudonym_key is not None:
        key = os.fsencode(ops.pseudonym_key.get_secret_value())
        kinds = (*settings.intake.extensions, settings.intake.sidecar)
        pseudonyms = Pseudonyms(key, kinds, folders_of_names(settings))
    configure_logging(ops.log_format, level or ops.log_level, pseudonyms)
    return pseudonyms


def folders_of_names(settings: Settings) -> list[Path]:
    """Return the folders in which names of files and folders can identify a patient."""
    intake = settings.intake
    return [*intake.inboxes, intake.archive, intake.quarantine, settings.results.heatmaps]
