"""A scanner that isn't there: synthetic gastric slides with ground truth, as Motic files."""

from her2d.simulator.cohort import (
    TileTruth,
    high_expression_fraction,
    tile_truth,
    write_cohort,
    write_truth,
)
from her2d.simulator.motic import write_he_slide, write_ihc_slide
from her2d.simulator.plan import Artefacts, SlidePlan, plan_cohort, plan_slide
from her2d.simulator.render import Region, render_ihc_region, render_region
from her2d.simulator.scanner import Delivered, WriteStyle, deliver, run_scanner
from her2d.simulator.stain import DAB_THRESHOLD
from her2d.simulator.tissue import tissue_tiles

__all__ = [
    "DAB_THRESHOLD",
    "Artefacts",
    "Delivered",
    "Region",
    "SlidePlan",
    "TileTruth",
    "WriteStyle",
    "deliver",
    "high_expression_fraction",
    "plan_cohort",
    "plan_slide",
    "render_ihc_region",
    "render_region",
    "run_scanner",
    "tile_truth",
    "tissue_tiles",
    "write_cohort",
    "write_he_slide",
    "write_ihc_slide",
    "write_truth",
]
