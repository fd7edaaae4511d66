"""SQLite records and queries, and the heatmap."""

from her2d.results.comparison import Comparison, Disagreement, compare_bundles
from her2d.results.files import remove_leftovers
from her2d.results.heatmap import HeatmapData, render_heatmap, write_png
from her2d.results.history import (
    FateSummary,
    PastRun,
    runs_of_slide,
    tile_summary,
    timings_of_run,
)
from her2d.results.listing import Order, ResultFilter, SortKey, count_results, list_results
from her2d.results.pictures import Pictures, PicturesMissing, write_pictures
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
from her2d.results.stored_run import SlideGeometry, StoredRun, read_run

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
    "Pictures",
    "PicturesMissing",
    "QualityFlag",
    "QualityRecord",
    "ResultFilter",
    "RunRecord",
    "SlideGeometry",
    "SlideNotFound",
    "SlideRecord",
    "SlideResult",
    "SortKey",
    "StageTiming",
    "StoredRun",
    "TileTable",
    "compare_bundles",
    "count_results",
    "find_slide",
    "list_results",
    "read_run",
    "record_run",
    "remove_leftovers",
    "render_heatmap",
    "result_of_run",
    "runs_of_slide",
    "slide_with_result",
    "tile_summary",
    "timings_of_run",
    "write_pictures",
    "write_png",
]
