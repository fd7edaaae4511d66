-- What a queue needs that survives kill -9, shares that go away, and moved originals.

alter table jobs add column inode integer not null default 0;          -- 0: unknown, or not stable
alter table jobs add column claim integer not null default 0;          -- counts claims; the last one holds
alter table jobs add column interruptions integer not null default 0;  -- times a daemon died on it
alter table jobs add column overdue_at text;                           -- reported as incomplete
alter table jobs add column archived_path text;                           -- where on_success or on_failure puts it
alter table jobs add column archived_at text;                             -- when it was there

create index jobs_to_claim on jobs (priority desc, interruptions, id)
    where state in ('queued', 'failed');
create index jobs_unarchived on jobs (state, id) where archived_at is null;
