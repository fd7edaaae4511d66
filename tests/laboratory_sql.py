"""Statements that fill a database with as many scored slides as a laboratory has after years."""

NUMBERS_SQL = "with recursive n(i) as (select 1 union all select i + 1 from n where i < {last}) "
SLIDES_SQL = """
insert into slides (id, content_hash, file_name, path, barcode, vendor, width, height,
    magnification, mpp, first_seen_at)
select i, 'blake2b:' || i, printf('S%06d.tif', i), printf('/in/S%06d.tif', i),
    cast(900000 + i as text), 'motic', 40000, 40000, 40, 0.25, '2025-01-01T00:00:00.000000Z' from n
"""
# Spread over three years; P follows a fixed irrational step, so that statuses look mixed.
RUNS_SQL = """
insert into runs (slide_id, bundle_id, her2_status, high_expression_percent, ci_low, ci_high,
    ci_calibrated, borderline, threshold_percent, tile_cut, tumor_pixels, strong_pixels,
    tiles_total, tiles_tissue, tiles_tumor, tiles_strong,
    tiles_unreadable, grid_columns, grid_rows, um_per_px, level0_downsample, backend,
    precision, runtime, runtime_version, scikit_learn_version, software_version, heatmap_path,
    queued_at, started_at, finished_at, elapsed_s)
select i, {bundle}, iif(p >= 10, 'positive', 'negative'), p, max(p - 3, 0), min(p + 3, 100),
    1, abs(p - 10) < 0.4, 10, 0.5, 9000000, cast(90000 * p as integer), 400, 200, 80,
    cast(0.8 * p as integer), 0, 20, 20, 2.5, 10,
    'onnxruntime', 'fp32', 'onnxruntime', '1', '1', '0.1',
    '/heatmaps/' || i || '.png', at, at, at, 40 + i % 50
from (select i, abs(sin(i * {step})) * 55 as p,
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', '2023-01-01', '+' || (i * 15) || ' minutes') as at from n)
"""
QUALITY_SQL = """
insert into run_quality (run_id, tissue_mm2, tumor_mm2, focus, blurred_percent,
    tissue_fold_percent, pen_percent, artefact_tumor_percent, stain_red, stain_green, stain_blue,
    stain_distance, blurred, folded, pen_marked, stain_outlier, saturation, saturation_distance,
    stained_mm2)
select id, 120, 60, 300, 2, 0.5, 0, 0.3, 0.3, 0.5, 0.2, 1, id % 37 = 0,
    id % 41 = 0, id % 97 = 0, id % 151 = 0, 90, 1, 120 from runs
"""
OUTCOMES_SQL = """
insert into outcomes (slide_id, ihc, fish, ihc_percent, imported_at, imported_by, source)
select i, case i % 7 when 0 then '3+' when 1 then '2+' when 2 then '1+' else '0' end,
    iif(i % 14 = 1, 'amplified', null), i % 100, 't', 'li', 'ihc.csv' from n
"""
TILES_SQL = """
insert into tiles select runs.id, n.i / 20, n.i % 20,
    case n.i % 5 when 0 then 'strong' when 1 then 'weak' else 'non_tumor' end,
    iif(n.p is null, 0, 120000), n.p, n.p, n.p, n.p, n.p, n.p, null
from runs cross join (select i, iif(i % 5 < 2, 0.4 + i / 1e4, null) as p from n) as n
where runs.id between ? and ?
"""
