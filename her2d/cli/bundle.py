"""`her2d bundle info|verify|build`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from her2d.bundle.integrator import load_integrator
from her2d.bundle.loading import load_bundle
from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, StudyOption, settings_of

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
        "measured_external",
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


@app.command("build")
def build(
    directory: Annotated[Path, typer.Argument(help="Folder to write, such as engines/ours.")],
    study: StudyOption = Path("study"),
    version: Annotated[str, typer.Option(help="The bundle's own version.")] = "1",
    intended_use: Annotated[
        str | None, typer.Option(help="One sentence; research only if none is given.")
    ] = None,
) -> None:
    """Pack an evaluated study's models, with what was measured, as a bundle to serve."""
    from her2d.research.evaluation.publish import ship
    from her2d.research.training.study import Study, StudyError

    try:
        bundle = ship(Study(study), directory, version=version, intended_use=intended_use)
    except StudyError as error:
        raise UserError(str(error)) from error
    except (ValueError, OSError) as error:
        raise UserError(f"The bundle cannot be written: {error}.") from error
    typer.echo(f"{bundle.manifest.name} {bundle.manifest.version} in {directory}: {bundle.digest}")
