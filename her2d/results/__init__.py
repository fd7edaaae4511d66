"""SQLite records and queries, and the heatmap."""

from her2d.results.heatmap import HeatmapData, render_heatmap, write_png
from her2d.results.queries import (
    AmbiguousSlide,
    SlideNotFound,
    find_slide,
    list_results,
    result_of_run,
    slide_with_result,
)
from her2d.results.records import BundleRecord, RunRecord, SlideRecord, SlideResult, TileTable
from her2d.results.store import record_run

__all__ = [
    "AmbiguousSlide",
    "BundleRecord",
    "HeatmapData",
    "RunRecord",
    "SlideNotFound",
    "SlideRecord",
    "SlideResult",
    "TileTable",
    "find_slide",
    "list_results",
    "record_run",
    "render_heatmap",
    "result_of_run",
    "slide_with_result",
    "write_png",
]
