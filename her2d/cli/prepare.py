"""`her2d prepare COHORT.csv`: write the labelled tiles of a hospital's cohort."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from her2d.cli.errors import UserError
from her2d.cli.extras import require_extra
from her2d.cli.options import StudyOption
from her2d.cli.terminal import say

if TYPE_CHECKING:
    from her2d.research.training.region_classes import RegionClasses

_DENSEST = 10.0
"""A density that no camera can measure."""


def prepare(
    cohort: Annotated[Path, typer.Argument(help="The cohort table, described above.")],
    study: StudyOption = Path("study"),
    annotations: Annotated[
        str | None,
        typer.Option(help="Path of each slide's annotations: 'annotations/{slide}.geojson'."),
    ] = None,
    expression: Annotated[
        Literal["annotation", "dab"],
        typer.Option(help="annotation, or dab: estimated from the IHC slides' brown."),
    ] = "annotation",
    dab_threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=_DENSEST, help="DAB density from which expression is high. Default: 0.10."
        ),
    ] = None,
    region_classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME=CLASS",
            help="Class of the regions with a name: tumor, high_expression, excluded or ignore.",
        ),
    ] = None,
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="With --expression dab: correct the shift of each IHC slide, as it was measured.",
        ),
    ] = False,
    excluded: Annotated[
        Path | None,
        typer.Option(help="CSV with columns slide, column, row, reason: tiles to leave out."),
    ] = None,
) -> None:
    """Write the labelled tiles of a cohort.

    The cohort table is checked first. A stopped preparation is continued.

    The table is a CSV with a row for each slide. Columns: slide, patient, he_path, ihc_score (0,
    1+, 2+, 3+, or empty without tumour), fish (positive, negative or empty), split (train,
    integrator, test or external); optional ihc_path, annotation_path, her2_status (compared with
    the scores; indeterminate means no tumour). All other columns are morphology. Paths are relative
    to the table's folder.

    Each IHC slide is compared with its H&E slide. A shift, and an IHC slide of another piece of
    tissue, are reported and recorded in the study's alignment.csv.

    Annotations are QuPath GeoJSON, Aperio XML or label images. Regions are named Tumor, HER2 high,
    Exclude, or as --class says. More in docs/how-to/training.md.
    """
    require_extra("train", "her2d prepare")
    from her2d.research.training.alignment import write_alignments
    from her2d.research.training.cohort import CohortError, read_cohort
    from her2d.research.training.ihc import DAB_THRESHOLD
    from her2d.research.training.prepare import (
        ExpressionSource,
        LabelRules,
        PrepareError,
        alignments,
        contradicting_slides,
        prepare_study,
        read_excluded,
        slides_without_tumor,
    )
    from her2d.research.training.study import Study, StudyError
    from her2d.research.training.tile_store import TileStore

    folder = Study(study)
    try:
        slides = read_cohort(cohort, annotations=annotations)
        rules = LabelRules(
            ExpressionSource(expression),
            DAB_THRESHOLD if dab_threshold is None else dab_threshold,
            read_excluded(excluded) if excluded is not None else {},
            _classes(region_classes or []),
            align,
        )
        if align and rules.expression is not ExpressionSource.DAB:
            raise UserError("--align only has an effect with --expression dab.")
        if dab_threshold is not None and rules.expression is not ExpressionSource.DAB:
            raise UserError("--dab-threshold only has an effect with --expression dab.")
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("slides", total=len(slides))
            prepare_study(
                folder,
                slides,
                rules,
                progress=lambda _: bar.advance(task),
                note=lambda note: bar.console.print(note, markup=False, soft_wrap=True),
            )
    except (CohortError, PrepareError, StudyError) as error:
        raise UserError(str(error)) from error
    except (ValueError, OSError) as error:
        raise UserError(f"The cohort cannot be prepared: {error}.") from error
    pairs = alignments(slides, folder.tiles)
    try:
        write_alignments(folder.alignment, pairs)
    except OSError as error:
        raise UserError(f"Cannot write {folder.alignment}: {error}.") from error
    store = TileStore(folder.tiles, [slide.name for slide in slides])
    if bare := slides_without_tumor(slides, store):
        say(
            f"{len(bare)} {'slide has' if len(bare) == 1 else 'slides have'} a HER2 status but no"
            f" annotated tumour, such as {', '.join(bare[:5])}. Segmenters would learn that this"
            " tumour is other tissue. Draw it, or take such slides out of the table.",
            err=True,
        )
    if wrong := contradicting_slides(slides, store):
        most = sorted(wrong, key=lambda name: -wrong[name])[:5]
        say(
            f"{len(wrong)} {'slide' if len(wrong) == 1 else 'slides'} with IHC 0 or 1+"
            f" {'has' if len(wrong) == 1 else 'have'} strong tiles, such as"
            f" {', '.join(f'{name} ({wrong[name]})' for name in most)}. The threshold may be too"
            " low, or slides may be mixed up.",
            err=True,
        )
    table = store.table
    strong = int((table.strong & table.is_tumor & table.labelled).sum())
    say(
        f"Wrote {len(table.slide)} tissue tiles of {len(slides)} slides to {study}:"
        f" {int(table.is_tumor.sum())} with tumour, {strong} of them strong."
    )


def _classes(given: list[str]) -> "RegionClasses":
    from her2d.research.training.region_classes import RegionClass, RegionClasses

    found = {}
    for text in given:
        name, equals, kind = text.rpartition("=")
        if not equals or kind not in list(RegionClass):
            raise UserError(
                f"--class {text} is not NAME={'|'.join(RegionClass)}, such as 'Stroma=ignore'."
            )
        found[name] = RegionClass(kind)
    return RegionClasses(found)
