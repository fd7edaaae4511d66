-- The database of her2d. Times are UTC, as ISO-8601 text with microseconds and a final Z.

create table slides (
    id integer primary key,
    content_hash text not null unique,
    file_name text not null,
    path text not null,                -- where the file is now
    barcode text,
    vendor text not null,
    width integer not null,            -- level 0, pixels
    height integer not null,
    magnification real not null,       -- of the objective, level 0
    mpp real,                          -- micrometres per pixel, level 0; null if the file has none
    first_seen_at text not null,
    barcode_source text,               -- where the barcode was read: description or label
    label_barcode text,                -- on the label image; null if there is none
    -- whether the label shows another barcode than the file states
    barcode_mismatch integer not null default 0 check (barcode_mismatch in (0, 1)),
    magnification_source text,         -- the statement it was taken from, or assumed
    -- The file when its content was hashed, by which a viewer knows that it is still the same. Null
    -- if that was not noted: then the content is compared.
    size integer,                      -- bytes, of all its files
    mtime_ns integer,                  -- of its newest file
    ctime_ns integer,
    first_block text,                  -- hash of its first MiB; a file with another one is new
    -- The current outcome, kept by a trigger: a view that joins by it costs nothing without one.
    outcome_id integer references outcomes (id)
);
create index slides_by_file_name on slides (file_name);
create index slides_by_barcode on slides (barcode) where barcode is not null;
create index slides_by_label_barcode on slides (label_barcode) where label_barcode is not null;
create index slides_by_size on slides (size, first_block);
create index slides_with_mismatch on slides (id) where barcode_mismatch = 1;

-- Parts of names of three and more characters, for searches. The text itself stays in slides.
create virtual table slide_names using fts5(
    file_name, barcode, label_barcode, content = slides, content_rowid = id, tokenize = trigram
);

create trigger slides_are_named after insert on slides
begin
    insert into slide_names (rowid, file_name, barcode, label_barcode)
    values (new.id, new.file_name, new.barcode, new.label_barcode);
end;

create trigger slides_are_renamed after update of file_name, barcode, label_barcode on slides
begin
    insert into slide_names (slide_names, rowid, file_name, barcode, label_barcode)
    values ('delete', old.id, old.file_name, old.barcode, old.label_barcode);
    insert into slide_names (rowid, file_name, barcode, label_barcode)
    values (new.id, new.file_name, new.barcode, new.label_barcode);
end;

create trigger slides_lose_their_names after delete on slides
begin
    insert into slide_names (slide_names, rowid, file_name, barcode, label_barcode)
    values ('delete', old.id, old.file_name, old.barcode, old.label_barcode);
end;

-- Names that slides had before their files were renamed.
create table former_names (
    slide_id integer not null references slides (id),
    file_name text not null,
    path text not null,                -- where the file was
    until text not null,               -- when the new name was found; the event renamed has it, too
    primary key (slide_id, until)
) without rowid;
create index former_names_by_name on former_names (file_name);

create table bundles (
    id integer primary key,
    digest text not null unique,       -- SHA-256 of the manifest
    name text not null,
    version text not null,
    manifest text not null,            -- JSON
    first_used_at text not null
);

-- Calibrations of bundles on this laboratory's slides by which runs were made.
create table calibrations (
    digest text primary key,           -- SHA-256 of the file
    bundle_id integer not null references bundles (id),
    content text not null,             -- TOML
    first_used_at text not null
) without rowid;

-- One row for each time a slide was scored. Rows are added and never changed, except that a
-- trigger keeps is_current (the newest run of a slide is its current result), that pruning notes
-- tiles_pruned_at, and that the names of the current run's pictures follow the slide's.
create table runs (
    id integer primary key,
    slide_id integer not null references slides (id),
    bundle_id integer not null references bundles (id),
    method text not null default 'her2net' check (method in ('her2net', 'mil')),
    her2_status text not null check (her2_status in ('positive', 'negative', 'indeterminate')),
    reason_code text,                  -- why the status is indeterminate, null for a call
    reason text,                       -- the same as a sentence
    high_expression_percent real,
    ci_low real,                       -- percent
    ci_high real,
    ci_calibrated integer check (ci_calibrated in (0, 1)),  -- null without an interval
    borderline integer not null check (borderline in (0, 1)),
    threshold_percent real,            -- P from which the bundle calls a slide positive; null by mil
    tile_cut real,                     -- the integrator's probability above which a tile is strong;
                                       -- null by mil
    positive_probability real,         -- that the slide is HER2-positive, by mil; null without a call
    probability_threshold real,        -- probability from which the bundle calls a slide positive;
                                       -- null by her2net
    send_to_ihc integer check (send_to_ihc in (0, 1)),  -- by the calibration; null without one
    calibration text references calibrations (digest),
    tumor_pixels integer not null,
    strong_pixels integer,             -- null by mil
    tiles_total integer not null,
    tiles_tissue integer not null,
    tiles_tumor integer not null,
    tiles_strong integer,              -- null by mil
    tiles_unreadable integer not null,
    unreadable_reason text,            -- why the first unreadable tile could not be read
    tiles_decided_early integer,       -- tumour tiles for which not all sub-classifiers were run,
                                       -- because their class was certain; null if all were for all
    focal_plane text,                  -- of a z-stack, such as '2 of 5'; null if there is one plane
    unread_pictures text,              -- which pictures of the file were neither read nor named
    decoding text,                     -- 'JPEG at half size'; null if every pixel was decoded
    grid_columns integer not null,
    grid_rows integer not null,
    um_per_px real not null,           -- micrometres per pixel of the 4x grid
    scale_remark text,                 -- why the scan's scale is doubtful; null if it is not
    level0_downsample real not null,   -- level 0 pixels per pixel of the 4x grid
    backend text not null,             -- back end and precision, such as tensorrt-fp16
    precision text not null,           -- what the networks were computed in
    runtime text not null,             -- the library that ran them
    runtime_version text not null,
    scikit_learn_version text not null,
    software_version text not null,    -- of her2d
    git_commit text,                   -- of her2d; null if it was installed from a package
    heatmap_path text,
    queued_at text,
    started_at text not null,
    finished_at text not null,
    elapsed_s real not null,
    is_current integer not null default 1 check (is_current in (0, 1)),
    tiles_pruned_at text,              -- when its rows in tiles were deleted
    finished_on text generated always as (substr(finished_at, 1, 10)) virtual,
    waited_s real
        generated always as ((julianday(started_at) - julianday(queued_at)) * 86400.0) virtual
);
create index runs_by_slide on runs (slide_id, id);
create index runs_by_day on runs (finished_on, elapsed_s, tiles_total, waited_s);
create index runs_current_by_finish on runs (finished_at, id) where is_current = 1;
create index runs_current_by_percent on runs (high_expression_percent, id) where is_current = 1;
create index runs_current_by_margin on runs (abs(high_expression_percent - threshold_percent), id)
    where is_current = 1;
create index runs_current_by_status on runs (her2_status, finished_at, id) where is_current = 1;
create index runs_current_by_reason on runs (reason_code, finished_at, id)
    where is_current = 1 and reason_code is not null;
create index runs_current_by_bundle on runs (bundle_id, finished_at, id) where is_current = 1;
create index runs_current_borderline on runs (id) where is_current = 1 and borderline = 1;
create index runs_current_off_scale on runs (id)
    where is_current = 1 and scale_remark is not null;
create index runs_current_to_ihc on runs (id) where is_current = 1 and send_to_ihc = 1;
create index runs_current_by_day on runs (finished_on, her2_status, borderline)
    where is_current = 1;

create trigger runs_newest_is_current after insert on runs
begin
    update runs set is_current = 0
    where slide_id = new.slide_id and id < new.id and is_current = 1;
end;

-- How many current runs there are of each kind. Kept by triggers.
create table result_counts (
    her2_status text not null,
    reason_code text not null,         -- '' without one
    borderline integer not null,
    send_to_ihc integer not null,      -- -1 without a calibration
    bundle_id integer not null references bundles (id),
    number integer not null,
    primary key (her2_status, reason_code, borderline, send_to_ihc, bundle_id)
) without rowid;

create trigger result_counts_without_zeros after update of number on result_counts
when new.number = 0
begin
    delete from result_counts where her2_status = new.her2_status
    and reason_code = new.reason_code and borderline = new.borderline
    and send_to_ihc = new.send_to_ihc and bundle_id = new.bundle_id;
end;

create trigger runs_are_counted after insert on runs when new.is_current = 1
begin
    insert into result_counts values (new.her2_status, coalesce(new.reason_code, ''),
        new.borderline, coalesce(new.send_to_ihc, -1), new.bundle_id, 1)
    on conflict do update set number = number + 1;
end;

create trigger runs_are_counted_again
after update of is_current, her2_status, reason_code, borderline, send_to_ihc, bundle_id on runs
begin
    insert into result_counts select old.her2_status, coalesce(old.reason_code, ''),
        old.borderline, coalesce(old.send_to_ihc, -1), old.bundle_id, -1 where old.is_current = 1
    on conflict do update set number = number - 1;
    insert into result_counts select new.her2_status, coalesce(new.reason_code, ''),
        new.borderline, coalesce(new.send_to_ihc, -1), new.bundle_id, 1 where new.is_current = 1
    on conflict do update set number = number + 1;
end;

create trigger runs_are_counted_no_more after delete on runs when old.is_current = 1
begin
    insert into result_counts values (old.her2_status, coalesce(old.reason_code, ''),
        old.borderline, coalesce(old.send_to_ihc, -1), old.bundle_id, -1)
    on conflict do update set number = number - 1;
end;

-- What the laboratory found on a slide's tissue by IHC and FISH. Rows are added and never changed,
-- except that a trigger keeps is_current: the newest outcome of a slide is its current one.
create table outcomes (
    id integer primary key,
    slide_id integer not null references slides (id),
    ihc text not null check (ihc in ('0', '1+', '2+', '3+')),
    fish text check (fish in ('amplified', 'not amplified')),
    ihc_percent real check (ihc_percent between 0 and 100),  -- HER2-high share of tumour, by IHC
    read_on text,                      -- day
    read_by text,                      -- who read IHC and FISH
    patient text,                      -- a name that slides of the same patient share
    imported_at text not null,
    imported_by text not null,         -- who ran the import
    source text not null,              -- the file that it was in
    is_current integer not null default 1 check (is_current in (0, 1)),
    her2_outcome text generated always as (
        case
            when ihc = '3+' then 'positive'
            when ihc <> '2+' then 'negative'
            when fish is null then 'equivocal'
            when fish = 'amplified' then 'positive'
            else 'negative'
        end
    ) virtual
);
create unique index outcomes_current on outcomes (slide_id) where is_current = 1;
create index outcomes_by_slide on outcomes (slide_id, id);
create index outcomes_current_by_status on outcomes (her2_outcome, id) where is_current = 1;

-- Before the insert, because a slide may have only one current outcome at any moment.
create trigger outcomes_newest_is_current before insert on outcomes
begin
    update outcomes set is_current = 0 where slide_id = new.slide_id and is_current = 1;
end;

-- How many slides have each current outcome. Kept by triggers.
create table outcome_counts (
    her2_outcome text primary key,
    number integer not null
) without rowid;

create trigger outcomes_are_counted after insert on outcomes when new.is_current = 1
begin
    insert into outcome_counts values (new.her2_outcome, 1)
    on conflict do update set number = number + 1;
end;

create trigger outcomes_are_counted_again after update of is_current, ihc, fish on outcomes
begin
    insert into outcome_counts select old.her2_outcome, -1 where old.is_current = 1
    on conflict do update set number = number - 1;
    insert into outcome_counts select new.her2_outcome, 1 where new.is_current = 1
    on conflict do update set number = number + 1;
end;

create trigger outcomes_are_counted_no_more after delete on outcomes when old.is_current = 1
begin
    insert into outcome_counts values (old.her2_outcome, -1)
    on conflict do update set number = number - 1;
end;

create trigger outcome_counts_without_zeros after update of number on outcome_counts
when new.number = 0
begin
    delete from outcome_counts where her2_outcome = new.her2_outcome;
end;

create trigger outcomes_of_slides after insert on outcomes
begin
    update slides set outcome_id = new.id where id = new.slide_id;
end;

-- Background tiles have no row: the run's grid and its other tiles tell which they are.
create table tiles (
    run_id integer not null references runs (id) on delete cascade,
    tile_row integer not null,
    tile_column integer not null,
    tile_class text not null check (tile_class in ('non_tumor', 'weak', 'strong', 'tumor', 'unreadable')),
    tumor_pixels integer not null,
    -- In a tile that was decided early, a probability that was not computed is null.
    p_strong real,                     -- probability of strong staining, 0 to 1
    p_fold_1 real,                     -- the same by each cross-validation fold's network
    p_fold_2 real,
    p_fold_3 real,
    p_fold_4 real,
    p_fold_5 real,
    attention real,                    -- weight of the tile in the call of a slide as a whole, by mil
    primary key (run_id, tile_row, tile_column)
) without rowid;

-- Quality of the scan as a run measured it; null where there was no tissue to measure.
create table run_quality (
    run_id integer primary key references runs (id) on delete cascade,
    tissue_mm2 real not null,
    tumor_mm2 real not null,
    focus real,                        -- median variance of the Laplacian over tissue, 4x, 8 bit
    blurred_percent real,              -- of tissue
    tissue_fold_percent real,          -- of tissue
    pen_percent real,                  -- of the slide
    artefact_tumor_percent real,       -- of the tumour, left out of P: blurred, folded or under ink
    stain_red real,                    -- mean optical density of tissue
    stain_green real,
    stain_blue real,
    stain_distance real,               -- standard deviations from the bundle's reference
    blurred integer not null check (blurred in (0, 1)),
    folded integer not null check (folded in (0, 1)),
    pen_marked integer not null check (pen_marked in (0, 1)),
    stain_outlier integer not null check (stain_outlier in (0, 1)),
    -- Faded stains and changed colour profiles of scanners show in the saturation first.
    saturation real,                   -- mean HSV saturation of tissue, 0 to 255
    saturation_distance real,          -- standard deviations from the bundle's reference
    stained_mm2 real not null,         -- stained tissue, without a pen's ink
    ink_percent real,                  -- blue, green and black, of all that has colour
    brown_percent real,                -- of stained tissue, as DAB in immunohistochemistry
    foreign_percent real,              -- of stained tissue, in colours that H&E cannot mix
    pink_percent real,                 -- of stained tissue, as eosin
    hematoxylin_degrees real,          -- between the slide's stain vector and the bundle's
    eosin_degrees real,
    stain_problem text                 -- why the slide is not H&E, null if it is
);
create index run_quality_flagged on run_quality (run_id)
    where blurred = 1 or folded = 1 or pen_marked = 1 or stain_outlier = 1;

-- Small pictures of the slide and its tumour, from which overlays and outlines are made.
create table run_pictures (
    run_id integer primary key references runs (id) on delete cascade,
    slide_path text not null,          -- JPEG
    tumor_path text not null,          -- PNG, share of tumour pixels, 0 to 255
    tile_px integer not null           -- pixels along a tile's side
);

-- How long each step of a run took.
create table run_timings (
    run_id integer not null references runs (id) on delete cascade,
    step text not null,
    seconds real not null,
    primary key (run_id, step)
) without rowid;

-- Slides that two bundles have scored, with the newest run of each. Kept by a trigger.
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

-- Folders of older scans that a person asked for. The daemon searches each once, and creates the
-- jobs of its scans.
create table backfills (
    id integer primary key,
    folder text not null,
    requested_at text not null,
    requested_by text not null,        -- user and command
    searched_at text,                  -- when the search of the folder ended; null until then
    files integer not null default 0,  -- that the search has found so far
    known integer not null default 0,  -- of these, files that had a job already
    problem text,                      -- why the folder cannot be searched now, as a sentence
    paused_at text,                    -- since when no job of it is claimed; null if they are
    resumed_at text,                   -- when it was last resumed
    source text generated always as ('backfill ' || id) virtual
);
create unique index backfills_by_folder on backfills (folder);

-- When each source of jobs had its last turn, as the number of that claim.
create table turns (
    source text primary key,           -- an inbox or a back-fill, as in jobs
    claim integer not null
) without rowid;

-- The queue: one row for each time a file was found, or was queued by a person.
create table jobs (
    id integer primary key,
    path text not null,
    file_name text not null,
    inbox text not null,               -- '' for a file that a person named
    state text not null check (state in ('settling', 'queued', 'running', 'done', 'failed',
                                         'quarantined', 'cancelled', 'duplicate', 'vanished',
                                         'unread')),
    reason text,
    attempts integer not null default 0,
    priority integer not null default 0,             -- higher ones run first
    size integer not null,
    mtime_ns integer not null,
    inode integer not null default 0,                -- 0 if unknown or not stable
    ctime_ns integer not null default 0,             -- 0 if unknown
    sidecar text,                                    -- state of the sidecar that it was queued with
    content_hash text,
    barcode text,                      -- of a file that could not be scored, as far as it was read
    claim integer not null default 0,                -- counts claims; only the last one is valid
    interruptions integer not null default 0,        -- times the daemon ended while it ran the job
    -- whether it is read to its end before it is scored, because an attempt ended unexpectedly
    hash_first integer not null default 0 check (hash_first in (0, 1)),
    unforeseen integer not null default 0,           -- errors of her2d that nobody foresaw
    -- which machines opened the file and could not read it: names of the cluster's nodes, and
    -- 'this machine' for the daemon's; JSON
    unreadable_on text not null default '[]',
    slide_id integer references slides (id),
    run_id integer references runs (id),
    not_before text,                   -- null once the job is due
    discovered_at text not null,
    queued_at text,
    started_at text,
    heartbeat_at text,
    overdue_at text,                                 -- when it was reported as incomplete
    finished_at text,
    archived_path text,                              -- where on_success or on_failure moves it
    archived_at text,                                -- when the move was complete
    backfill_id integer references backfills (id),   -- that it belongs to; null for one of an inbox
    settling_since text,                             -- since when it settles, or last did
    -- whether its path has no newer job, kept by triggers
    is_newest integer not null default 1 check (is_newest in (0, 1)),
    -- Whose turn a claim of this job is: the inbox's, or the back-fill's.
    source text generated always as
        (iif(backfill_id is null, inbox, 'backfill ' || backfill_id)) virtual
);
create unique index jobs_one_live_for_a_path on jobs (path)
    where state in ('settling', 'queued', 'running', 'failed');
create index jobs_by_path on jobs (path, id);
create index jobs_by_file_name on jobs (file_name, id);
create index jobs_by_state on jobs (state, priority desc, id);
create index jobs_to_claim on jobs (priority desc, source, interruptions, id)
    where state in ('queued', 'failed') and not_before is null;
create index jobs_that_wait on jobs (source, not_before)
    where state in ('queued', 'failed') and not_before is not null;
create index jobs_unfinished on jobs (priority, settling_since)
    where state = 'settling' and overdue_at is null;
create index jobs_complete on jobs (state, priority, coalesce(queued_at, discovered_at))
    where state in ('queued', 'running', 'failed');
create index jobs_unresolved on jobs (finished_at, id) where state = 'quarantined' and is_newest = 1;
create index jobs_by_slide on jobs (slide_id) where slide_id is not null;
create index jobs_by_backfill on jobs (backfill_id, state, finished_at)
    where backfill_id is not null;
create index jobs_unarchived on jobs (state, id) where archived_at is null and inbox <> '';

create trigger jobs_newest_is_the_last_inserted after insert on jobs
begin
    update jobs set is_newest = 0 where path = new.path and is_newest = 1
    and id <> (select max(id) from jobs where path = new.path);
end;

create trigger jobs_newest_of_another_path after update of path on jobs
begin
    update jobs set is_newest = (id = (select max(id) from jobs as same where same.path = jobs.path))
    where path in (old.path, new.path);
end;

create trigger jobs_newest_is_deleted after delete on jobs
begin
    update jobs set is_newest = 1 where id = (select max(id) from jobs where path = old.path);
end;

-- How many jobs there are of each kind, so that what is asked for every second or at each scrape
-- costs the same however many jobs there are. Kept by triggers, and so in the transaction of each
-- change. They add and subtract, which is right in any order in which triggers run.
create table job_counts (
    state text not null,
    waits integer not null,            -- whether not_before is not null
    priority integer not null,
    source text not null,
    inbox text not null,
    is_overdue integer not null,
    is_newest integer not null,
    number integer not null,
    primary key (state, waits, priority, source, inbox, is_overdue, is_newest)
) without rowid;

create trigger job_counts_without_zeros after update of number on job_counts when new.number = 0
begin
    delete from job_counts where state = new.state and waits = new.waits
    and priority = new.priority and source = new.source and inbox = new.inbox
    and is_overdue = new.is_overdue and is_newest = new.is_newest;
end;

create trigger jobs_are_counted after insert on jobs
begin
    insert into job_counts values (new.state, new.not_before is not null, new.priority,
        new.source, new.inbox, new.overdue_at is not null, new.is_newest, 1)
    on conflict do update set number = number + 1;
end;

create trigger jobs_are_counted_again
after update of state, not_before, priority, backfill_id, inbox, overdue_at, is_newest on jobs
when (old.state, old.not_before is null, old.priority, old.source, old.inbox,
      old.overdue_at is null, old.is_newest)
    is not (new.state, new.not_before is null, new.priority, new.source, new.inbox,
            new.overdue_at is null, new.is_newest)
begin
    insert into job_counts values (old.state, old.not_before is not null, old.priority,
        old.source, old.inbox, old.overdue_at is not null, old.is_newest, -1)
    on conflict do update set number = number - 1;
    insert into job_counts values (new.state, new.not_before is not null, new.priority,
        new.source, new.inbox, new.overdue_at is not null, new.is_newest, 1)
    on conflict do update set number = number + 1;
end;

create trigger jobs_are_counted_no_more after delete on jobs
begin
    insert into job_counts values (old.state, old.not_before is not null, old.priority,
        old.source, old.inbox, old.overdue_at is not null, old.is_newest, -1)
    on conflict do update set number = number - 1;
end;

-- What happened, in order. Rows are added and never changed.
create table events (
    id integer primary key,
    at text not null,
    job_id integer references jobs (id),
    slide_id integer references slides (id),
    name text not null,
    detail text,
    actor text                         -- user and command; null for what the daemon did
);
create index events_by_job on events (job_id, id);
create index events_by_slide on events (slide_id, id) where slide_id is not null;
create index events_to_deliver on events (id)
    where name in ('done', 'failed', 'quarantined', 'cancelled', 'duplicate', 'renamed');
create index events_by_persons on events (id) where actor is not null;

-- The last event that the webhook is finished with: one row, written after each delivery.
create table webhook_cursor (
    id integer primary key check (id = 1),
    event_id integer not null,
    at text not null
);

-- How long deliveries have run, in seconds: one row. No clock that jumps gives an event up.
create table webhook_clock (
    id integer primary key check (id = 1),
    ran_s real not null
);

-- Events that the receiver refused and later ones have overtaken, and events that a person sends
-- again. Each is tried at times that do not depend on the others.
create table webhook_retries (
    event_id integer primary key references events (id) on delete cascade,
    since_s real not null,             -- webhook_clock.ran_s when the event was deferred
    tries integer not null,
    next_at text not null
);
create index webhook_retries_by_time on webhook_retries (next_at, event_id);

-- The current result of each slide.
create view slide_results as
select
    slides.id as slide_id,
    slides.file_name,
    slides.path,
    slides.barcode,
    slides.content_hash,
    runs.method,
    runs.her2_status,
    runs.reason_code,
    runs.reason,
    runs.high_expression_percent,
    runs.ci_low,
    runs.ci_high,
    runs.ci_calibrated,
    runs.borderline,
    runs.threshold_percent,
    runs.tile_cut,
    runs.positive_probability,
    runs.probability_threshold,
    runs.send_to_ihc,
    runs.tumor_pixels,
    runs.strong_pixels,
    runs.tiles_tumor,
    runs.tiles_strong,
    runs.tiles_total,
    runs.tiles_tissue,
    runs.tiles_unreadable,
    runs.unreadable_reason,
    runs.tiles_decided_early,
    bundles.name as bundle_name,
    bundles.version as bundle_version,
    bundles.digest as bundle_digest,
    runs.backend,
    runs.precision,
    runs.runtime,
    runs.runtime_version,
    runs.scikit_learn_version,
    runs.software_version,
    runs.git_commit,
    runs.queued_at,
    runs.started_at,
    runs.finished_at,
    runs.elapsed_s,
    runs.heatmap_path,
    runs.id as run_id,
    runs.focal_plane,
    runs.unread_pictures,
    runs.decoding,
    run_quality.tissue_mm2,
    run_quality.tumor_mm2,
    run_quality.focus,
    run_quality.blurred_percent,
    run_quality.tissue_fold_percent,
    run_quality.pen_percent,
    run_quality.artefact_tumor_percent,
    run_quality.stain_distance,
    run_quality.brown_percent,
    run_quality.foreign_percent,
    run_quality.pink_percent,
    -- '' if nothing is suspected
    ltrim(
        iif(run_quality.blurred, ',blurred', '') || iif(run_quality.folded, ',folded', '')
        || iif(run_quality.pen_marked, ',pen-marked', '')
        || iif(run_quality.stain_outlier, ',stain-outlier', '')
        || iif(slides.barcode_mismatch, ',barcode-mismatch', '')
        || iif(runs.scale_remark is not null, ',off-scale', ''), ','
    ) as quality_flags,
    slides.barcode_source,
    slides.label_barcode,
    slides.magnification,
    slides.magnification_source,
    slides.mpp,
    runs.um_per_px,
    runs.scale_remark,
    runs.calibration,
    outcomes.her2_outcome,
    outcomes.ihc,
    outcomes.fish,
    outcomes.ihc_percent
from runs
join slides on slides.id = runs.slide_id
join bundles on bundles.id = runs.bundle_id
join run_quality on run_quality.run_id = runs.id
left join outcomes on outcomes.id = slides.outcome_id
where runs.is_current = 1;

-- Slides whose confidence interval includes the threshold, the closest to it first.
create view borderline_cases as
select * from slide_results where borderline = 1
order by abs(high_expression_percent - threshold_percent);

-- Slides that the laboratory's calibration sends to IHC, and of which no outcome is known yet.
create view ihc_worklist as
select * from slide_results where send_to_ihc = 1 and her2_outcome is null
order by run_id;

-- Current results by the day (UTC) on which they were finished.
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

-- Work done each day (UTC), including slides that were scored again.
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

-- How many slides two bundles gave each pair of statuses.
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

-- Slides whose scan a person should examine before the result is used.
create view quality_concerns as
select slide_results.*
from run_quality
join slide_results on slide_results.run_id = run_quality.run_id
where run_quality.blurred = 1 or run_quality.folded = 1
or run_quality.pen_marked = 1 or run_quality.stain_outlier = 1
union all
select slide_results.*
from slides
join slide_results on slide_results.slide_id = slides.id
left join run_quality on run_quality.run_id = slide_results.run_id
where slides.barcode_mismatch = 1
and not coalesce(run_quality.blurred or run_quality.folded or run_quality.pen_marked
                 or run_quality.stain_outlier, 0)
union all
select slide_results.*
from runs
join slide_results on slide_results.run_id = runs.id
where runs.is_current = 1 and runs.scale_remark is not null
and slide_results.quality_flags = 'off-scale';
