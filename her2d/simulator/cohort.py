"""A cohort on disk, with H&E and IHC slides, ground truth, and a table of the slides.

cohort.csv            slide, patient, he_path, ihc_path, ihc_score, fish, her2_status, split,
                      differentiation, magnification; paths relative to the folder
he/NAME.tif           the H&E slide
ihc/NAME.tif          the aligned IHC slide, at 4x
truth/NAME.tif        uint8 at 4x: 0 none, 1 weak tumour, 2 strong tumour
truth/NAME.tiles.csv  column, row, tumor_pixels, strong_pixels, tile_class

A cohort with a histology has in addition:

cohort.csv            annotation_path, age, sex, specimen, center, and a column for each feature of
                      the histology, present or absent
annotations/NAME.tif  the mask as an annotator drew it, which differs from the truth
truth/plans.csv       slide, strong_fraction, the shares of the histology, the IHC slide's shift
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from her2d.method import SATURATION, TILE_PX, TUMOR_FRACTION
from her2d.simulator.motic import grid_of, pixels_at, write_he_slide, write_ihc_slide
from her2d.simulator.plan import Histology, SlidePlan
from her2d.simulator.render import annotated_region, render_region, true_region
from her2d.system.files import replacing
from her2d.system.parent_process import end_with_parent

_TEST_FRACTION = 115 / 646  # the paper's internal test set (section 2.1)

TileClass = Literal["background", "non_tumor", "weak", "strong"]


@dataclass(frozen=True, slots=True)
class TileTruth:
    """Ground truth of one tile of the 4x grid."""

    column: int
    row: int
    tumor_pixels: int
    strong_pixels: int
    tile_class: TileClass


def tile_truth(
    column: int,
    row: int,
    *,
    tumor: NDArray[np.bool_],
    strong: NDArray[np.bool_],
    picture: Callable[[], NDArray[np.uint8]],
) -> TileTruth:
    """Return the ground truth of a tile.

    A tumour tile is strong if at least half of its tumour is (paper, section 4.2).

    Args:
        column, row: of the 4x grid.
        tumor, strong: bool (512, 512), the true masks.
        picture: renders the tile, uint8 (512, 512, 3) RGB. It is called only where there is too
            little tumour, to tell tissue from glass.
    """
    tumor_pixels, strong_pixels = int(tumor.sum()), int(strong.sum())
    tile_class: TileClass
    if tumor_pixels > TUMOR_FRACTION * TILE_PX * TILE_PX:
        tile_class = "strong" if 2 * strong_pixels >= tumor_pixels else "weak"
    elif cv2.mean(cv2.cvtColor(picture(), cv2.COLOR_RGB2HSV))[1] <= SATURATION:
        tile_class = "background"
    else:
        tile_class = "non_tumor"
    return TileTruth(column, row, tumor_pixels, strong_pixels, tile_class)


def high_expression_fraction(tiles: Sequence[TileTruth]) -> float | None:
    """Compute the true P of a slide (equation 1), or None without tumour."""
    tumor = sum(t.tumor_pixels for t in tiles if t.tile_class in ("weak", "strong"))
    strong = sum(t.tumor_pixels for t in tiles if t.tile_class == "strong")
    return strong / tumor if tumor else None


def write_truth(plan: SlidePlan, folder: Path) -> list[TileTruth]:
    """Write the mask and the tile table of a slide into `folder`.

    Returns:
        The ground truth of all tiles, row by row.

    Raises:
        OSError: the folder cannot be written.
    """
    truths: list[TileTruth] = []
    at = pixels_at(grid_of(plan).um_per_px)

    def mask(column: int, row: int) -> NDArray[np.uint8]:
        x, y = column * TILE_PX, row * TILE_PX
        box = (x, y, TILE_PX, TILE_PX)
        true = true_region(plan, *box, magnification=at)

        def picture() -> NDArray[np.uint8]:
            return render_region(plan, *box, magnification=at).rgb

        truths.append(
            tile_truth(column, row, tumor=true.tumor, strong=true.strong, picture=picture)
        )
        return true.tumor.astype(np.uint8) + true.strong

    _write_mask(plan, folder / f"{plan.name}.tif", mask)
    with (folder / f"{plan.name}.tiles.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["column", "row", "tumor_pixels", "strong_pixels", "tile_class"])
        table.writerows(
            [t.column, t.row, t.tumor_pixels, t.strong_pixels, t.tile_class] for t in truths
        )
    return truths


def write_annotation(plan: SlidePlan, path: Path) -> None:
    """Write the mask of a slide as an annotator drew it, with the labels of the truth.

    Raises:
        OSError: the file cannot be written.
    """
    at = pixels_at(grid_of(plan).um_per_px)

    def mask(column: int, row: int) -> NDArray[np.uint8]:
        x, y = column * TILE_PX, row * TILE_PX
        drawn = annotated_region(plan, x, y, TILE_PX, TILE_PX, magnification=at)
        return drawn.tumor.astype(np.uint8) + drawn.strong

    _write_mask(plan, path, mask)


def _write_mask(plan: SlidePlan, path: Path, mask: Callable[[int, int], NDArray[np.uint8]]) -> None:
    """Write a mask of the size of the slide at 4x, tile by tile."""
    grid = grid_of(plan)
    size = (plan.width, plan.height) if plan.scale == 1 else (grid.width, grid.height)
    columns, rows = (range(-(-side // TILE_PX)) for side in size)
    tifffile.imwrite(
        path,
        (mask(column, row) for row in rows for column in columns),
        shape=(size[1], size[0]),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        compression="deflate",
        photometric="minisblack",
        metadata=None,
        maxworkers=1,
    )


def write_cohort(
    directory: Path,
    plans: Sequence[SlidePlan],
    *,
    workers: int = 1,
    progress: Callable[[SlidePlan], None] = lambda _: None,
) -> None:
    """Write the slides of `plans`, and then the table of the cohort.

    A cohort that was stopped in the middle has no table.

    Args:
        directory: folder to write; it is created if it does not exist.
        plans: the slides, as `plan_cohort` returns them.
        workers: number of processes, each of which writes one slide at a time. With several, every
            process imports the calling script, which must then make this call only
            `if __name__ == "__main__":`.
        progress: called after each slide.

    Raises:
        OSError: the folder cannot be written.
    """
    table = directory / "cohort.csv"
    table.unlink(missing_ok=True)
    annotated = any(plan.annotation is not None for plan in plans)
    for part in ("he", "ihc", "truth", *(["annotations"] if annotated else [])):
        (directory / part).mkdir(parents=True, exist_ok=True)
    if workers == 1:
        for plan in plans:
            _write_slide(directory, plan)
            progress(plan)
    else:
        # A fork does not return while another thread computes in BLAS, because it waits for BLAS.
        spawned = get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawned, initializer=end_with_parent) as pool:
            futures = {pool.submit(_write_slide, directory, plan): plan for plan in plans}
            for future in as_completed(futures):
                future.result()
                progress(futures[future])
    if any(plan.histology is not None for plan in plans):
        _write_plans(directory / "truth" / "plans.csv", plans)
    write_table(table, plans)


def _write_slide(directory: Path, plan: SlidePlan) -> None:
    write_he_slide(plan, directory / "he" / f"{plan.name}.tif")
    write_ihc_slide(plan, directory / "ihc" / f"{plan.name}.tif")
    write_truth(plan, directory / "truth")
    if plan.annotation is not None:
        write_annotation(plan, directory / "annotations" / f"{plan.name}.tif")


def write_table(path: Path, plans: Sequence[SlidePlan]) -> None:
    """Write the table of a cohort.

    Args:
        path: the CSV file; its folder is that of the cohort.
        plans: the slides.

    Raises:
        OSError: the file cannot be written.
    """
    patients = list(dict.fromkeys(plan.patient for plan in plans))
    in_test = set(patients[len(patients) - round(len(patients) * _TEST_FRACTION) :])
    _write_rows(
        path,
        [
            {
                "slide": plan.name,
                "patient": plan.patient,
                "he_path": f"he/{plan.name}.tif",
                "ihc_path": f"ihc/{plan.name}.tif",
                "ihc_score": plan.ihc_score,
                "fish": plan.fish,
                "her2_status": plan.her2_status,
                "split": plan.split or ("test" if plan.patient in in_test else "train"),
                "differentiation": plan.differentiation,
                "magnification": f"{plan.magnification:g}x",
            }
            | _further_columns(plan)
            for plan in plans
        ],
    )


def _further_columns(plan: SlidePlan) -> dict[str, object]:
    """Return the columns of a slide with a histology, named as in the paper's Tables 1 to 4."""
    histology = plan.histology
    if histology is None:
        return {}
    features = {
        "tertiary_lymphoid_structure": histology.tertiary_lymphoid,
        "mucinous_differentiation": histology.mucinous > 0,
        "adenoid_differentiation": histology.adenoid > 0,
        "papillary_differentiation": histology.papillary > 0,
        "signet_ring_cell": histology.signet_ring > 0,
    }
    columns: dict[str, object] = {
        "annotation_path": f"annotations/{plan.name}.tif",
        "age": plan.age,
        "sex": plan.sex,
        "specimen": plan.specimen,
        "center": plan.center.name,
    }
    return columns | {name: "present" if drawn else "absent" for name, drawn in features.items()}


def _write_plans(path: Path, plans: Sequence[SlidePlan]) -> None:
    """Write what is not known of a real slide, and so is not in the table of the cohort."""
    _write_rows(
        path,
        [
            {
                "slide": plan.name,
                "strong_fraction": plan.strong_fraction,
                "um_per_px": plan.um_per_px,
            }
            | asdict(plan.histology or Histology())
            | {"ihc_shift_x": plan.ihc.shift_x, "ihc_shift_y": plan.ihc.shift_y}
            for plan in plans
        ],
    )


def _write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with replacing(path) as part, part.open("w", newline="") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        table.writeheader()
        table.writerows(rows)
