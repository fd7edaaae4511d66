"""`her2d bundle info|verify`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from her2d.bundle import load_bundle, load_integrator
from her2d.cli.options import ConfigOption, JsonOption, settings_of

app = typer.Typer(help="What the models are, and whether they are unaltered.", no_args_is_help=True)

BundleArgument = Annotated[
    Path | None, typer.Argument(help="Bundle folder. Default: the one in the settings.")
]


@app.command("info")
def info(
    directory: BundleArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print a bundle's manifest: what it is made of, for what, and how good it was found to be."""
    bundle = load_bundle(directory or settings_of(config).bundle.path)
    if as_json:
        typer.echo(bundle.manifest.model_dump_json(indent=2))
        return
    table = Table(title=f"{bundle.manifest.name} {bundle.manifest.version}", show_header=False)
    table.add_row("intended use", bundle.manifest.intended_use)
    table.add_row("folder", str(bundle.directory))
    table.add_row("digest", bundle.digest)
    for section in (
        "preprocessing",
        "decision",
        "normalization",
        "tolerance",
        "training",
        "measured",
    ):
        values = getattr(bundle.manifest, section)
        if values is not None:
            lines = (f"{key} = {value}" for key, value in values.model_dump().items())
            table.add_row(section, "\n".join(lines))
    for name, part in bundle.manifest.parts:
        table.add_row(name, f"{part.architecture}\n{part.file}\nsha256 {part.sha256}")
    Console(markup=False).print(table)


@app.command("verify")
def verify(directory: BundleArgument = None, config: ConfigOption = None) -> None:
    """Check every file against its hash and restore the integrator; exit 1 where one fails."""
    bundle = load_bundle(directory or settings_of(config).bundle.path)
    load_integrator(bundle)
    typer.echo(f"{bundle.manifest.name} {bundle.manifest.version} is unaltered: {bundle.digest}")
