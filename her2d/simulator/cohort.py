"""A cohort on disk, with H&E and IHC slides, ground truth, and a table of the slides.

cohort.csv            slide, patient, he_path, ihc_path, ihc_score, fish, her2_status, split,
                      differentiation, magnification; paths relative to the folder
he/NAME.tif           the H&E slide
ihc/NAME.tif          the aligned IHC slide, at 4x
truth/NAME.tif        uint8 at 4x: 0 none, 1 weak tumour, 2 strong tumour
truth/NAME.tiles.csv  column, row, tumor_pixels, strong_pixels, tile_class
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from her2d.method import SATURATION, TILE_PX, TUMOR_FRACTION
from her2d.simulator.motic import write_he_slide, write_ihc_slide
from her2d.simulator.plan import SlidePlan
from her2d.simulator.render import Region, render_region

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


def tile_truth(column: int, row: int, region: Region) -> TileTruth:
    """Return the ground truth of a tile.

    A tumour tile is strong if at least half of its tumour is (paper, section 4.2).
    """
    tumor, strong = int(region.tumor.sum()), int(region.strong.sum())
    tile_class: TileClass
    if tumor > TUMOR_FRACTION * TILE_PX * TILE_PX:
        tile_class = "strong" if 2 * strong >= tumor else "weak"
    elif cv2.mean(cv2.cvtColor(region.rgb, cv2.COLOR_RGB2HSV))[1] <= SATURATION:
        tile_class = "background"
    else:
        tile_class = "non_tumor"
    return TileTruth(column, row, tumor, strong, tile_class)


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

    def masks() -> Iterator[NDArray[np.uint8]]:
        for row in range(-(-plan.height // TILE_PX)):
            for column in range(-(-plan.width // TILE_PX)):
                region = render_region(plan, column * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX)
                truths.append(tile_truth(column, row, region))
                yield region.tumor.astype(np.uint8) + region.strong

    tifffile.imwrite(
        folder / f"{plan.name}.tif",
        masks(),
        shape=(plan.height, plan.width),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        compression="deflate",
        photometric="minisblack",
        metadata=None,
        maxworkers=1,
    )
    with (folder / f"{plan.name}.tiles.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["column", "row", "tumor_pixels", "strong_pixels", "tile_class"])
        table.writerows(
            [t.column, t.row, t.tumor_pixels, t.strong_pixels, t.tile_class] for t in truths
        )
    return truths


def write_cohort(
    directory: Path,
    plans: Sequence[SlidePlan],
    *,
    workers: int = 1,
    progress: Callable[[SlidePlan], None] = lambda _: None,
) -> None:
    """Write the slides of `plans` and the table of the cohort.

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
    for part in ("he", "ihc", "truth"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    if workers == 1:
        for plan in plans:
            _write_slide(directory, plan)
            progress(plan)
    else:
        # A fork does not return while another thread computes in BLAS, because it waits for BLAS.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(_write_slide, directory, plan): plan for plan in plans}
            for future in as_completed(futures):
                future.result()
                progress(futures[future])
    _write_table(directory / "cohort.csv", plans)


def _write_slide(directory: Path, plan: SlidePlan) -> None:
    write_he_slide(plan, directory / "he" / f"{plan.name}.tif")
    write_ihc_slide(plan, directory / "ihc" / f"{plan.name}.tif")
    write_truth(plan, directory / "truth")


def _write_table(path: Path, plans: Sequence[SlidePlan]) -> None:
    patients = list(dict.fromkeys(plan.patient for plan in plans))
    in_test = set(patients[len(patients) - round(len(patients) * _TEST_FRACTION) :])
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            [
                "slide",
                "patient",
                "he_path",
                "ihc_path",
                "ihc_score",
                "fish",
                "her2_status",
                "split",
                "differentiation",
                "magnification",
            ]
        )
        for plan in plans:
            table.writerow(
                [
                    plan.name,
                    plan.patient,
                    f"he/{plan.name}.tif",
                    f"ihc/{plan.name}.tif",
                    plan.ihc_score,
                    plan.fish,
                    plan.her2_status,
                    "test" if plan.patient in in_test else "train",
                    plan.differentiation,
                    f"{plan.magnification:g}x",
                ]
            )
