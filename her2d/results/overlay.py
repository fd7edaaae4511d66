"""Draw a stored run: the tumour in colour, over the slide or on a transparent background."""

import numpy as np

from her2d.method import TILE_PX
from her2d.results.heatmap import HIGH_COLOR, WEAK_COLOR, HeatmapData, overlaid, tint_of
from her2d.results.pictures import Image, Pictures, PicturesMissing
from her2d.results.stored_run import StoredRun


def slide_extent(run: StoredRun, pictures: Pictures) -> tuple[int, int]:
    """Compute width and height of a run's pictures in pixels, without padding.

    Raises:
        PicturesMissing: another slide's pictures are in their place.
    """
    side = pictures.tile_px
    if pictures.tumor.shape != (run.geometry.rows * side, run.geometry.columns * side):
        raise PicturesMissing(
            f"What is stored as the picture of {run.result.file_name} is not the picture of that"
            " slide. Scan the slide again."
        )
    scale = pictures.tile_px / run.geometry.tile_side
    return (
        max(1, round(run.geometry.width * scale)),
        max(1, round(run.geometry.height * scale)),
    )


def overlaid_slide(run: StoredRun, pictures: Pictures) -> Image:
    """Draw the slide with its tumour in colour, uint8 (H, W, 3) without padding."""
    width, height = slide_extent(run, pictures)
    return overlaid(_heatmap_data(run, pictures))[:height, :width]


def transparent_overlay(run: StoredRun, pictures: Pictures) -> Image:
    """Draw only the tumour's colours, to put over the slide, uint8 RGBA (H, W, 4)."""
    width, height = slide_extent(run, pictures)
    data = _heatmap_data(run, pictures)
    tint = tint_of(data)
    rgba = np.empty((*pictures.tumor.shape, 4), np.uint8)
    rgba[..., :3] = np.where(tint.high[..., None], HIGH_COLOR, WEAK_COLOR)
    rgba[..., 3] = pictures.tumor * np.where(tint.high, 0.6 + 0.4 * tint.strength, 0.5)
    return rgba[:height, :width]


def _heatmap_data(run: StoredRun, pictures: Pictures) -> HeatmapData:
    shape = (run.geometry.rows, run.geometry.columns)
    tile_class = np.array(run.tiles.tile_class)
    index = (run.tiles.row, run.tiles.column)
    p_strong = np.full(shape, np.nan, np.float32)
    p_strong[index] = run.tiles.p_strong
    attention = None
    if run.tiles.attention is not None:
        attention = np.full(shape, np.nan, np.float32)
        attention[index] = run.tiles.attention
    strong, unreadable = np.zeros(shape, bool), np.zeros(shape, bool)
    strong[index], unreadable[index] = tile_class == "strong", tile_class == "unreadable"
    width, height = slide_extent(run, pictures)
    return HeatmapData(
        rgb=pictures.rgb,
        tumor=pictures.tumor,
        tile_px=pictures.tile_px,
        p_strong=p_strong,
        strong=strong,
        unreadable=unreadable,
        um_per_px=run.geometry.um_per_px * TILE_PX / pictures.tile_px,
        width=width,
        height=height,
        title=run.result.file_name,
        subtitle="",
        attention=attention,
    )
