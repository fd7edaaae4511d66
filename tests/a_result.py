"""The records of one small slide's result."""

import numpy as np

from her2d.pipeline.scoring import Her2Status, Score
from her2d.pipeline.slide_quality import SlideQuality
from her2d.pipeline.software import Software
from her2d.results.records import (
    BundleRecord,
    RunRecord,
    SlideRecord,
    TileTable,
)

SLIDE = SlideRecord("blake2b:aa", "a.tif", "/in/a.tif", "900444", "motic", 4096, 3072, 4.0, 2.5)
BUNDLE = BundleRecord("d" * 64, "test", "1", "{}")
QUALITY = SlideQuality(
    tissue_mm2=12.0,
    tumor_mm2=4.0,
    focus=300.0,
    blurred_percent=1.0,
    tissue_fold_percent=0.0,
    artefact_tumor_percent=0.0,
    pen_percent=0.0,
    stain_red=0.3,
    stain_green=0.5,
    stain_blue=0.2,
    stain_distance=None,
    saturation=90.0,
    saturation_distance=None,
    blurred=False,
    folded=False,
    pen_marked=False,
    stain_outlier=False,
)
SCORE = Score(
    her2_status=Her2Status.POSITIVE,
    high_expression_percent=40.0,
    ci_low=20.0,
    ci_high=60.0,
    tumor_pixels=1000,
    strong_pixels=400,
    tiles_tumor=2,
    tiles_strong=1,
)
SOFTWARE = Software(
    backend="onnxruntime",
    precision="fp32",
    runtime="onnxruntime",
    runtime_version="1.32.0",
    scikit_learn_version="1.7.2",
    software_version="0.1.0",
    git_commit=None,
)
RUN = RunRecord(
    score=SCORE,
    quality=QUALITY,
    tiles_total=48,
    tiles_tissue=3,
    tiles_unreadable=1,
    unreadable_reason="A block ends early.",
    grid_columns=8,
    grid_rows=6,
    um_per_px=2.5,
    level0_downsample=1.0,
    software=SOFTWARE,
    heatmap_path="/heat/a.png",
    queued_at=None,
    started_at="2026-01-01T00:00:00.000000Z",
    finished_at="2026-01-01T00:00:10.000000Z",
    elapsed_s=10.0,
)
TILES = TileTable(
    row=np.array([0, 0, 1, 2]),
    column=np.array([1, 2, 1, 7]),
    tile_class=("non_tumor", "strong", "weak", "unreadable"),
    tumor_pixels=np.array([5, 400, 600, 0]),
    p_strong=np.array([np.nan, 0.9, 0.2, np.nan], np.float32),
    p_folds=np.array([[np.nan] * 5, [0.9] * 5, [0.2] * 5, [np.nan] * 5], np.float32),
)
