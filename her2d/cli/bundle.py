"""`her2d bundle info|verify|build`: show, verify and build model bundles."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from her2d.bundle.integrator import load_integrator
from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.site_calibration import CalibrationError, with_calibration
from her2d.cli.errors import UserError
from her2d.cli.extras import require_extra
from her2d.cli.options import ConfigOption, JsonOption, StudyOption, settings_of
from her2d.cli.tables import fields
from her2d.cli.terminal import say
from her2d.method import MethodName

app = typer.Typer(help="Show, verify and build model bundles.", no_args_is_help=True)

BundleArgument = Annotated[
    Path | None, typer.Argument(help="Bundle folder. Default: the one in the settings.")
]


@app.command("info")
def info(
    directory: BundleArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print a bundle's manifest.

    Its intended use, its parts, what was measured, and its calibration on this laboratory's slides.
    """
    settings = settings_of(config).bundle
    bundle = load_bundle(directory or settings.path)
    calibration = _calibration(bundle, settings.calibration if directory is None else None)
    if as_json:
        document = bundle.manifest.model_dump(mode="json")
        say(json.dumps({**document, "calibration": calibration}, indent=2))
        return
    rows = [
        ("intended use", bundle.manifest.intended_use),
        ("method", bundle.manifest.method.value),
        ("folder", str(bundle.directory)),
        ("digest", bundle.digest),
        *(
            [("calibration", "none")]
            if calibration is None
            else list(_rows("calibration", calibration))
        ),
    ]
    for section in (
        "preprocessing",
        "decision",
        "mil",
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
    sentences = {name for name, _ in rows if name != "folder" and not name.endswith("file")}
    fields(rows, title=title, sentences=sentences).print(Console())


def _calibration(bundle: Bundle, setting: Path | None) -> dict[str, Any] | None:
    """Return what the bundle's calibration says, or why it cannot be used; None without one."""
    try:
        signed = with_calibration(bundle, setting).calibration
    except CalibrationError as error:
        return {"error": str(error)}
    if signed is None:
        return None
    content = signed.content.model_dump(mode="json")
    return {"file": str(signed.path), "digest": signed.digest, **content}


def _rows(name: str, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and not {"value", "low", "high"} >= value.keys():
            yield from _rows(f"{name}.{key}", value)
        elif isinstance(value, dict):
            yield f"{name}.{key}", "{value:g} ({low:g} to {high:g})".format(**value)
        else:
            yield f"{name}.{key}", "not measured" if value is None else str(value)


@app.command("verify")
def verify(directory: BundleArgument = None, config: ConfigOption = None) -> None:
    """Check a bundle's files against their hashes.

    Also loads the integrator, or computes the reference tiles of a bundle with mil. Exit code 1 if
    a check fails.
    """
    bundle = load_bundle(directory or settings_of(config).bundle.path)
    if bundle.manifest.method is MethodName.MIL:
        from her2d.inference.mil_engine import check_mil_bundle

        check_mil_bundle(bundle)
    else:
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
    method: Annotated[
        MethodName,
        typer.Option(help="her2net, or mil: the baseline by attention, if it was trained."),
    ] = MethodName.HER2NET,
) -> None:
    """Pack an evaluated study's models as a bundle.

    The manifest contains what `her2d evaluate` measured.
    """
    require_extra("train", "her2d bundle build")
    from her2d.research.evaluation.publish import publish, publish_mil
    from her2d.research.training.study import Study, StudyError

    written = publish_mil if method is MethodName.MIL else publish
    try:
        bundle = written(Study(study), directory, version=version, intended_use=intended_use)
    except StudyError as error:
        raise UserError(str(error)) from error
    except (ValueError, OSError) as error:
        raise UserError(f"The bundle cannot be written: {error}.") from error
    name = f"{bundle.manifest.name} {bundle.manifest.version}"
    say(f"Wrote {name} to {directory}. Its digest is {bundle.digest}.")
