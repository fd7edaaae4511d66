"""`her2d export SLIDE --format F -o FILE`: write a slide's result for other programs."""

import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from sqlite_utils import Database

from her2d.cli.errors import UserError
from her2d.cli.extras import needing
from her2d.cli.options import ConfigOption, settings_of
from her2d.cli.output import file_to_write
from her2d.cli.slide import SlideArgument, heatmap_of, result_of
from her2d.cli.terminal import say
from her2d.db.connection import open_readonly
from her2d.results.history import runs_of_slide
from her2d.results.outcomes import patient_of
from her2d.results.pictures import PicturesMissing
from her2d.results.stored_run import StoredRun, TilesPruned, read_run
from her2d.settings import FhirSettings


class ExportFormat(StrEnum):
    """Formats that a slide's result can be written in."""

    GEOJSON = "geojson"
    CSV = "csv"
    PARQUET = "parquet"
    PNG = "png"
    OME_TIFF = "ome-tiff"
    FHIR = "fhir"
    HTML = "html"


def export(
    slide: SlideArgument,
    format_: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="geojson for QuPath; csv or parquet with the tiles; png of the heatmap; ome-tiff"
            " of the overlay; fhir (R4); html, a one-page report.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    least_um2: Annotated[
        float,
        typer.Option(
            "--min-area",
            min=0,
            metavar="UM2",
            help="geojson: smallest region of tumour to outline, in square micrometres.",
        ),
    ] = 2500.0,
    subject: Annotated[
        str | None,
        typer.Option(help="fhir: the patient's identifier in [fhir] subject_system."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write a slide's result to a file for other programs.

    For QuPath, for statistics, or for a hospital's information system.
    """
    settings = settings_of(config)
    if subject is not None and settings.fhir.subject_system is None:
        raise UserError("--subject needs [fhir] subject_system, the system of the identifier.")
    db = open_readonly(settings.results.database)
    run = read_run(db, result_of(db, slide).run_id)
    patient = subject or patient_of(db, run.result.slide_id)
    wanted = _Export(run, format_, least_um2, settings.fhir, patient, db)
    extra = "parquet" if format_ is ExportFormat.PARQUET else None
    try:
        with needing(f"--format {format_}", extra), file_to_write(output) as file:
            remark = _write(wanted, file)
    except (PicturesMissing, TilesPruned) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}.") from error
    say(str(output))
    if remark is not None:
        say(remark, err=True)


@dataclass(frozen=True, slots=True)
class _Export:
    """What is written; the fields after `format` are for one format each."""

    run: StoredRun
    format: ExportFormat
    least_um2: float
    fhir: FhirSettings
    subject: str | None
    db: Database


def _write(wanted: _Export, output: Path) -> str | None:
    """Write the file, and return a sentence about what is not in it, if anything."""
    run = wanted.run
    match wanted.format:
        case ExportFormat.GEOJSON:
            return _write_geojson(wanted, output)
        case ExportFormat.CSV:
            from her2d.results.export.tables import write_csv

            with output.open("w", encoding="utf-8", newline="") as file:
                write_csv(run, file)
        case ExportFormat.PARQUET:
            from her2d.results.export.tables import write_parquet

            write_parquet(run, output)
        case ExportFormat.PNG:
            shutil.copyfile(heatmap_of(run.result), output)
        case ExportFormat.OME_TIFF:
            from her2d.results.export.ome_tiff import write_ome_tiff

            write_ome_tiff(run, output)
        case ExportFormat.FHIR:
            from her2d.results.export.fhir import fhir_bundle

            is_repeated = len(runs_of_slide(wanted.db, run.result.slide_id)) > 1
            text = fhir_bundle(
                run.result, wanted.fhir, subject=wanted.subject, is_repeated=is_repeated
            )
            output.write_text(text, encoding="utf-8")
        case ExportFormat.HTML:
            from her2d.results.export.report import report_html

            output.write_text(report_html(run), encoding="utf-8")
    return None


def _write_geojson(wanted: _Export, output: Path) -> str | None:
    from her2d.results.export.geojson import write_geojson

    with output.open("w", encoding="utf-8") as file:
        left_out = write_geojson(wanted.run, file, least_um2=wanted.least_um2)
    if not left_out.regions:
        return None
    several = left_out.regions > 1
    return (
        f"{left_out.regions} region{'s' if several else ''} of tumour under"
        f" {wanted.least_um2:g} um2 ({left_out.area_mm2:.2g} mm2 in all)"
        f" {'are' if several else 'is'} not outlined. --min-area 0 outlines every region."
    )
