"""`her2d doctor`: what would serve here, and why the rest would not."""

import json
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from her2d.bundle import load_bundle
from her2d.cli.options import ConfigOption, JsonOption, settings_of
from her2d.inference import candidates
from her2d.processing import engine_options


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the inference back ends, best first, and why one cannot serve here."""
    settings = settings_of(config)
    found = candidates(load_bundle(settings.bundle.path), engine_options(settings))
    if as_json:
        typer.echo(json.dumps({"backends": [asdict(item) for item in found]}, indent=2))
        return
    table = Table("back end", "usable", "reason", title="Inference back ends, best first")
    for item in found:
        table.add_row(item.name, "yes" if item.usable else "no", item.reason)
    Console().print(table)
