"""`her2d bundle info|verify|build`: show, verify and build model bundles."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from her2d.bundle.integrator import load_integrator
from her2d.bundle.loading import load_bundle
from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, JsonOption, StudyOption, settings_of
from her2d.cli.tables import fields
from her2d.cli.terminal import say

app = typer.Typer(help="Show, verify and build model bundles.", no_args_is_help=True)

BundleArgument = Annotated[
    Path | None, typer.Argument(help="Bundle folder. Default: the one in the settings.")
]


@app.command("info")
def info(
    directory: BundleArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print a bundle's manifest.

    Its intended use, its parts, and what was measured.
    """
    bundle = load_bundle(directory or settings_of(config).bundle.path)
    if as_json:
        say(bundle.manifest.model_dump_json(indent=2))
        return
    rows = [
        ("intended use", bundle.manifest.intended_use),
        ("folder", str(bundle.directory)),
        ("digest", bundle.digest),
    ]
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
            rows += [(f"{section}.{key}", str(value)) for key, value in values.model_dump().items()]
    for name, part in bundle.manifest.parts:
        rows += [
            (f"{name}.architecture", part.architecture),
            (f"{name}.file", part.file),
            (f"{name}.sha256", part.sha256),
        ]
    title = f"{bundle.manifest.name} {bundle.manifest.version}"
    fields(rows, title=title).print(Console())


@app.command("verify")
def verify(directory: BundleArgument = None, config: ConfigOption = None) -> None:
    """Check a bundle's files against their hashes.

    Also loads the integrator. Exit code 1 if a check fails.
    """
    bundle = load_bundle(directory or settings_of(config).bundle.path)
    load_integrator(bundle)
    name = f"{bundle.manifest.name} {bundle.manifest.version}"
    say(f"{name} is unaltered. Its digest is {bundle.digest}.")


@app.command("build")
def build(
    directory: Annotated[Path, typer.Argument(help="Folder to write, such as engines/ours.")],
    study: StudyOption = Path("study"),
    version: Annotated[str, typer.Option(help="Version of the new bundle.")] = "1",
    intended_use: Annotated[
        str | None, typer.Option(help="One sentence. Default: research only.")
    ] = None,
) -> None:
    """Pack an evaluated study's models as a bundle.

    The manifest contains what `her2d evaluate` measured.
    """
    from her2d.research.evaluation.publish import publish
    from her2d.research.training.study import Study, StudyError

    try:
        bundle = publish(Study(study), directory, version=version, intended_use=intended_use)
    except StudyError as error:
        raise UserError(str(error)) from error
    except (ValueError, OSError) as error:
        raise UserError(f"The bundle cannot be written: {error}.") from error
    name = f"{bundle.manifest.name} {bundle.manifest.version}"
    say(f"Wrote {name} to {directory}. Its digest is {bundle.digest}.")
