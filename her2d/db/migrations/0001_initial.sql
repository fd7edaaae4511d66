-- Times are UTC ISO-8601 text with microseconds and Z.

create table slides (
    id integer primary key,
    content_hash text not null unique,
    file_name text not null,
    path text not null,
    barcode text,
    vendor text not null,
    width integer not null,            -- level 0 pixels
    height integer not null,
    magnification real not null,       -- objective, level 0
    mpp real,                          -- micrometres a pixel, level 0, where the file says
    first_seen_at text not null
);
create index slides_by_file_name on slides (file_name);
create index slides_by_barcode on slides (barcode) where barcode is not null;

create table bundles (
    id integer primary key,
    digest text not null unique,       -- SHA-256 of the manifest
    name text not null,
    version text not null,
    manifest text not null,            -- JSON
    first_used_at text not null
);

-- Append-only: the newest run of a slide is its current result.
create table runs (
    id integer primary key,
    slide_id integer not null references slides (id),
    bundle_id integer not null references bundles (id),
    her2_status text not null check (her2_status in ('positive', 'negative', 'indeterminate')),
    reason text,
    high_expression_percent real,
    ci_low real,                       -- percent
    ci_high real,
    borderline integer not null check (borderline in (0, 1)),
    tumor_pixels integer not null,
    strong_pixels integer not null,
    tiles_total integer not null,
    tiles_tissue integer not null,
    tiles_tumor integer not null,
    tiles_strong integer not null,
    tiles_unreadable integer not null,
    unreadable_reason text,
    grid_columns integer not null,
    grid_rows integer not null,
    um_per_px real not null,           -- of the 4x grid
    backend text not null,
    software_version text not null,
    heatmap_path text,
    queued_at text,
    started_at text not null,
    finished_at text not null,
    elapsed_s real not null
);
create index runs_by_slide on runs (slide_id, id);
create index runs_by_status on runs (her2_status, id);

-- Background tiles have no row: the run's totals and its grid imply them.
create table tiles (
    run_id integer not null references runs (id) on delete cascade,
    tile_row integer not null,
    tile_column integer not null,
    tile_class text not null check (tile_class in ('non_tumor', 'weak', 'strong', 'unreadable')),
    tumor_pixels integer not null,
    p_strong real,
    p_fold_1 real,
    p_fold_2 real,
    p_fold_3 real,
    p_fold_4 real,
    p_fold_5 real,
    primary key (run_id, tile_row, tile_column)
) without rowid;

create table jobs (
    id integer primary key,
    path text not null,
    file_name text not null,
    inbox text not null,               -- '' for a file given by hand
    state text not null check (state in ('settling', 'queued', 'running', 'done', 'failed',
                                         'quarantined', 'duplicate', 'vanished')),
    reason text,
    attempts integer not null default 0,
    priority integer not null default 0,
    size integer not null,
    mtime_ns integer not null,
    content_hash text,
    slide_id integer references slides (id),
    run_id integer references runs (id),
    not_before text,
    discovered_at text not null,
    queued_at text,
    started_at text,
    heartbeat_at text,
    finished_at text
);
create unique index jobs_one_live_for_a_path on jobs (path)
    where state in ('settling', 'queued', 'running', 'failed');
create index jobs_by_path on jobs (path, id);
create index jobs_by_state on jobs (state, priority desc, id);

-- What happened, in order; never changed.
create table events (
    id integer primary key,
    at text not null,
    job_id integer references jobs (id),
    slide_id integer references slides (id),
    name text not null,
    detail text
);
create index events_by_job on events (job_id, id);

-- What everybody queries: the current result of each slide.
create view slide_results as
select
    slides.id as slide_id,
    slides.file_name,
    slides.path,
    slides.barcode,
    slides.content_hash,
    runs.her2_status,
    runs.reason,
    runs.high_expression_percent,
    runs.ci_low,
    runs.ci_high,
    runs.borderline,
    runs.tumor_pixels,
    runs.strong_pixels,
    runs.tiles_total,
    runs.tiles_tissue,
    runs.tiles_tumor,
    runs.tiles_strong,
    runs.tiles_unreadable,
    bundles.name as bundle_name,
    bundles.version as bundle_version,
    runs.backend,
    runs.software_version,
    runs.queued_at,
    runs.started_at,
    runs.finished_at,
    runs.elapsed_s,
    runs.heatmap_path,
    runs.id as run_id
from runs
join slides on slides.id = runs.slide_id
join bundles on bundles.id = runs.bundle_id
where runs.id = (select max(newest.id) from runs as newest where newest.slide_id = runs.slide_id);
