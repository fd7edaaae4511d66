"""`her2d prepare COHORT.csv`: a hospital's cohort becomes tiles to learn from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from her2d.cli.errors import UserError
from her2d.cli.options import StudyOption

if TYPE_CHECKING:
    from her2d.research.training.region_classes import RegionClasses


def prepare(
    cohort: Annotated[Path, typer.Argument(help="The cohort table, see below.")],
    study: StudyOption = Path("study"),
    annotations: Annotated[
        str | None,
        typer.Option(help="Where annotations lie, such as 'annotations/{slide}.geojson'."),
    ] = None,
    expression: Annotated[
        str, typer.Option(help="annotation, or dab: approximated from the IHC slides' brown.")
    ] = "annotation",
    dab_threshold: Annotated[
        float | None,
        typer.Option(min=0, help="DAB density from which expression is high. Default: 0.10."),
    ] = None,
    region_classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME=CLASS",
            help="What regions of a name are: tumor, high_expression, excluded or ignore.",
        ),
    ] = None,
    excluded: Annotated[
        Path | None,
        typer.Option(help="CSV of slide, column, row, reason: single tiles to leave out."),
    ] = None,
) -> None:
    """Check a cohort table and write its slides' labelled tiles; go on where it was stopped.

    The table is a CSV with a row for each slide. Columns: slide, patient, he_path, ihc_score (0,
    1+, 2+, 3+, or empty without tumour), fish (positive, negative or empty), split (train,
    integrator, test or external); optional ihc_path, annotation_path, her2_status (compared with
    the scores; indeterminate: no tumour). All others are morphology. Paths begin at the table's
    folder.

    Annotations are QuPath GeoJSON, Aperio XML or label images. Regions are named Tumor, HER2 high,
    Exclude, or as --class says. More in docs/training.md.
    """
    from her2d.research.training.cohort import CohortError, read_cohort
    from her2d.research.training.ihc import DAB_THRESHOLD
    from her2d.research.training.prepare import (
        ExpressionSource,
        LabelRules,
        PrepareError,
        contradicting_slides,
        read_excluded,
    )
    from her2d.research.training.prepare import prepare as prepare_slides
    from her2d.research.training.study import Study
    from her2d.research.training.tile_store import TileStore

    folder = Study(study)
    try:
        slides = read_cohort(cohort, annotations=annotations)
        rules = LabelRules(
            ExpressionSource(expression),
            DAB_THRESHOLD if dab_threshold is None else dab_threshold,
            read_excluded(excluded) if excluded is not None else {},
            _classes(region_classes or []),
        )
        folder.write_cohort(slides)
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("slides", total=len(slides))
            prepare_slides(
                slides,
                folder.tiles,
                rules,
                progress=lambda _: bar.advance(task),
                note=lambda said: bar.console.print(said, markup=False),
            )
    except (CohortError, PrepareError) as error:
        raise UserError(str(error)) from error
    except (ValueError, OSError) as error:
        raise UserError(f"The cohort cannot be prepared: {error}.") from error
    store = TileStore(folder.tiles, [slide.name for slide in slides])
    if wrong := contradicting_slides(slides, store):
        most = sorted(wrong, key=lambda name: -wrong[name])[:5]
        typer.echo(
            f"{len(wrong)} slides of IHC 0 or 1+ hold strong tiles, such as"
            f" {', '.join(f'{name} ({wrong[name]})' for name in most)}: is the threshold too low,"
            " or are slides mixed up?",
            err=True,
        )
    table = store.table
    strong = int((table.strong & table.is_tumor & table.labelled).sum())
    typer.echo(
        f"{len(slides)} slides, {len(table.slide)} tissue tiles, {int(table.is_tumor.sum())} of"
        f" them tumour, {strong} strong; in {study}"
    )


def _classes(given: list[str]) -> "RegionClasses":
    from her2d.research.training.region_classes import RegionClass, RegionClasses

    found = {}
    for text in given:
        name, equals, kind = text.rpartition("=")
        if not equals or kind not in list(RegionClass):
            raise UserError(
                f"--class {text}: NAME={'|'.join(RegionClass)} is wanted, such as 'Stroma=ignore'."
            )
        found[name] = RegionClass(kind)
    return RegionClasses(found)
