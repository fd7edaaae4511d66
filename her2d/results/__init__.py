"""SQLite records and queries, and the heatmap."""

from her2d.results.comparison import Comparison, Disagreement, compare_bundles
from her2d.results.heatmap import HeatmapData, render_heatmap, write_png
from her2d.results.history import (
    FateSummary,
    PastRun,
    runs_of_slide,
    tile_summary,
    timings_of_run,
)
from her2d.results.listing import Order, ResultFilter, SortKey, count_results, list_results
from her2d.results.queries import (
    AmbiguousBundle,
    AmbiguousSlide,
    BundleNotFound,
    SlideNotFound,
    find_slide,
    result_of_run,
    slide_with_result,
)
from her2d.results.records import (
    BundleRecord,
    PictureRecord,
    QualityFlag,
    QualityRecord,
    RunRecord,
    SlideRecord,
    SlideResult,
    StageTiming,
    TileTable,
)
from her2d.results.store import record_run

__all__ = [
    "AmbiguousBundle",
    "AmbiguousSlide",
    "BundleNotFound",
    "BundleRecord",
    "Comparison",
    "Disagreement",
    "FateSummary",
    "HeatmapData",
    "Order",
    "PastRun",
    "PictureRecord",
    "QualityFlag",
    "QualityRecord",
    "ResultFilter",
    "RunRecord",
    "SlideNotFound",
    "SlideRecord",
    "SlideResult",
    "SortKey",
    "StageTiming",
    "TileTable",
    "compare_bundles",
    "count_results",
    "find_slide",
    "list_results",
    "record_run",
    "render_heatmap",
    "result_of_run",
    "runs_of_slide",
    "slide_with_result",
    "tile_summary",
    "timings_of_run",
    "write_png",
]
