"""`her2d export SLIDE --format F -o FILE`: write a slide's result for other programs."""

import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, settings_of
from her2d.cli.output import file_to_write
from her2d.cli.slide import SlideArgument, heatmap_of, result_of
from her2d.cli.terminal import say
from her2d.db.connection import open_readonly
from her2d.results.pictures import PicturesMissing
from her2d.results.stored_run import StoredRun, TilesPruned, read_run


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
            " of the overlay; fhir (R4B); html, a one-page report.",
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
    config: ConfigOption = None,
) -> None:
    """Write a slide's result to a file for other programs.

    For QuPath, for statistics, or for a hospital's information system.
    """
    db = open_readonly(settings_of(config).results.database)
    run = read_run(db, result_of(db, slide).run_id)
    try:
        with file_to_write(output) as file:
            remark = _write(run, format_, file, least_um2)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{format_.value} needs the Python package {error.name}: pip install 'her2d[export]'."
        ) from error
    except (PicturesMissing, TilesPruned) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}.") from error
    say(str(output))
    if remark is not None:
        say(remark, err=True)


def _write(run: StoredRun, format_: ExportFormat, output: Path, least_um2: float) -> str | None:
    """Write the file, and return a sentence about what is not in it, if anything."""
    match format_:
        case ExportFormat.GEOJSON:
            from her2d.results.export.geojson import write_geojson

            with output.open("w", encoding="utf-8") as file:
                left_out = write_geojson(run, file, least_um2=least_um2)
            if left_out.regions:
                return (
                    f"{left_out.regions} regions of tumour under {least_um2:g} um2"
                    f" ({left_out.area_mm2:.2g} mm2 in all) are not outlined. --min-area 0 outlines"
                    " every region."
                )
        case ExportFormat.CSV:
            from her2d.results.export.tables import write_csv

            with output.open("w", encoding="utf-8", newline="") as file:
                write_csv(run, file)
        case ExportFormat.PARQUET:
            from her2d.results.export.tables import write_parquet

            write_parquet(run, output)
        case ExportFormat.PNG:
            _copy_heatmap(run, output)
        case ExportFormat.OME_TIFF:
            from her2d.results.export.ome_tiff import write_ome_tiff

            write_ome_tiff(run, output)
        case ExportFormat.FHIR:
            from her2d.results.export.fhir import fhir_bundle

            output.write_text(fhir_bundle(run.result), encoding="utf-8")
        case ExportFormat.HTML:
            from her2d.results.export.report import report_html

            output.write_text(report_html(run), encoding="utf-8")
    return None


def _copy_heatmap(run: StoredRun, output: Path) -> None:
    shutil.copyfile(heatmap_of(run.result), output)
