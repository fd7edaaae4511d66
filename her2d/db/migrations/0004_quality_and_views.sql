-- What people ask of results: which run is current, how sharp the scan was, how bundles agree.

-- Kept by trigger, so that a partial index knows the current runs without looking at every run.
alter table runs add column is_current integer not null default 1 check (is_current in (0, 1));
alter table runs add column level0_downsample real;   -- level-0 pixels to a pixel of the 4x grid
alter table runs add column finished_on text
    generated always as (substr(finished_at, 1, 10)) virtual;
alter table runs add column waited_s real
    generated always as ((julianday(started_at) - julianday(queued_at)) * 86400.0) virtual;

update runs set is_current = 0
where id <> (select max(newest.id) from runs as newest where newest.slide_id = runs.slide_id);

create trigger runs_newest_is_current after insert on runs
begin
    update runs set is_current = 0
    where slide_id = new.slide_id and id < new.id and is_current = 1;
end;

create index runs_current_by_finish on runs (finished_at, id) where is_current = 1;
create index runs_current_by_percent on runs (high_expression_percent, id) where is_current = 1;
create index runs_current_by_status on runs (her2_status, finished_at, id) where is_current = 1;
create index runs_current_by_bundle on runs (bundle_id, finished_at, id) where is_current = 1;
create index runs_current_borderline on runs (id) where is_current = 1 and borderline = 1;
create index runs_current_by_day on runs (finished_on, her2_status, borderline)
    where is_current = 1;
create index runs_by_day on runs (finished_on, elapsed_s, tiles_total, waited_s);
drop index runs_by_status;

-- Quality of the scan as a run found it; null where there was no tissue to measure.
create table run_quality (
    run_id integer primary key references runs (id) on delete cascade,
    tissue_mm2 real not null,
    tumor_mm2 real not null,
    focus real,                        -- median variance of the Laplacian on tissue, 4x, 8 bit
    blurred_percent real,              -- of tissue
    fold_percent real,
    pen_percent real,                  -- of the slide
    stain_red real,                    -- mean optical density of tissue
    stain_green real,
    stain_blue real,
    stain_distance real,               -- standard deviations from the bundle's reference
    blurred integer not null check (blurred in (0, 1)),
    folded integer not null check (folded in (0, 1)),
    pen_marked integer not null check (pen_marked in (0, 1)),
    stain_outlier integer not null check (stain_outlier in (0, 1))
);
create index run_quality_flagged on run_quality (run_id)
    where blurred = 1 or folded = 1 or pen_marked = 1 or stain_outlier = 1;

-- The slide and its tumour in small, as files: what overlays and outlines are made from later.
create table run_pictures (
    run_id integer primary key references runs (id) on delete cascade,
    slide_path text not null,          -- JPEG
    tumor_path text not null,          -- PNG, share of tumour pixels 0..255
    tile_px integer not null           -- pixels along a tile's side
);

create table run_timings (
    run_id integer not null references runs (id) on delete cascade,
    step text not null,
    seconds real not null,
    primary key (run_id, step)
) without rowid;

-- Slides that two bundles have scored, with the newest run of each; kept by trigger.
create table bundle_pairs (
    first_bundle_id integer not null references bundles (id),    -- the lower id
    second_bundle_id integer not null references bundles (id),
    slide_id integer not null references slides (id),
    first_run_id integer not null references runs (id),
    second_run_id integer not null references runs (id),
    first_status text not null,
    second_status text not null,
    primary key (first_bundle_id, second_bundle_id, slide_id)
) without rowid;
create index bundle_pairs_by_status on bundle_pairs
    (first_bundle_id, second_bundle_id, first_status, second_status);

insert into bundle_pairs
select one.bundle_id, other.bundle_id, one.slide_id, one.id, other.id,
    one.her2_status, other.her2_status
from runs as one
join runs as other on other.slide_id = one.slide_id and other.bundle_id > one.bundle_id
where one.id = (select max(id) from runs where slide_id = one.slide_id
                and bundle_id = one.bundle_id)
and other.id = (select max(id) from runs where slide_id = other.slide_id
                and bundle_id = other.bundle_id);

create trigger runs_pair_with_other_bundles after insert on runs
begin
    insert or replace into bundle_pairs
    select
        min(new.bundle_id, other.bundle_id),
        max(new.bundle_id, other.bundle_id),
        new.slide_id,
        iif(new.bundle_id < other.bundle_id, new.id, other.id),
        iif(new.bundle_id < other.bundle_id, other.id, new.id),
        iif(new.bundle_id < other.bundle_id, new.her2_status, other.her2_status),
        iif(new.bundle_id < other.bundle_id, other.her2_status, new.her2_status)
    from runs as other
    where other.slide_id = new.slide_id and other.bundle_id <> new.bundle_id
    and other.id = (select max(id) from runs where slide_id = new.slide_id
                    and bundle_id = other.bundle_id);
end;

drop view slide_results;

-- The current result of each slide.
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
    runs.id as run_id,
    run_quality.tissue_mm2,
    run_quality.tumor_mm2,
    run_quality.focus,
    run_quality.blurred_percent,
    run_quality.fold_percent,
    run_quality.pen_percent,
    run_quality.stain_distance,
    -- '' where nothing is suspected, null where quality was not measured
    ltrim(
        iif(run_quality.blurred, ',blurred', '') || iif(run_quality.folded, ',folded', '')
        || iif(run_quality.pen_marked, ',pen-marked', '')
        || iif(run_quality.stain_outlier, ',stain-outlier', '')
        || substr('', 1, run_quality.run_id), ','
    ) as quality_flags
from runs
join slides on slides.id = runs.slide_id
join bundles on bundles.id = runs.bundle_id
left join run_quality on run_quality.run_id = runs.id
where runs.is_current = 1;

-- Slides whose interval holds the threshold, the closest to it first.
create view borderline_cases as
select * from slide_results where borderline = 1
order by abs(high_expression_percent - 10);

-- Current results by the day (UTC) they were finished on.
create view daily_counts as
select
    finished_on as day,
    count(*) as slides,
    sum(her2_status = 'positive') as positive,
    sum(her2_status = 'negative') as negative,
    sum(her2_status = 'indeterminate') as indeterminate,
    sum(borderline) as borderline
from runs
where is_current = 1
group by finished_on
order by finished_on desc;

-- What the machine did each day (UTC), slides run again included.
create view throughput as
select
    finished_on as day,
    count(*) as runs,
    sum(tiles_total) as tiles,
    round(avg(elapsed_s), 2) as mean_elapsed_s,
    max(elapsed_s) as slowest_s,
    round(sum(tiles_total) / sum(elapsed_s), 1) as tiles_per_s,
    round(avg(waited_s), 1) as mean_waited_s
from runs
group by finished_on
order by finished_on desc;

-- How often two bundles said what of the same slides.
create view bundle_agreement as
select
    one.name || ' ' || one.version as first_bundle,
    other.name || ' ' || other.version as second_bundle,
    pairs.first_status,
    pairs.second_status,
    pairs.slides
from (
    select first_bundle_id, second_bundle_id, first_status, second_status, count(*) as slides
    from bundle_pairs
    group by first_bundle_id, second_bundle_id, first_status, second_status
) as pairs
join bundles as one on one.id = pairs.first_bundle_id
join bundles as other on other.id = pairs.second_bundle_id;

-- Slides a person should look at before believing their result.
create view quality_concerns as
select slide_results.*
from run_quality
join slide_results on slide_results.run_id = run_quality.run_id
where run_quality.blurred = 1 or run_quality.folded = 1
or run_quality.pen_marked = 1 or run_quality.stain_outlier = 1;
