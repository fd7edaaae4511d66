"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from her2d.settings import Settings, find_config, load_settings

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings file. Default: HER2D_CONFIG, ./config.toml, /etc/her2d/config.toml.",
    ),
]
StudyOption = Annotated[Path, typer.Option(help="The study's folder; made if missing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def settings_of(config: Path | None) -> Settings:
    """The settings a command runs with. Raises SettingsError."""
    return load_settings(find_config(config))
