-- Events that the receiver would not take and that later ones have passed: each is tried again at
-- times of its own. What people send again waits here, too.

create table webhook_aside (
    event_id integer primary key references events (id) on delete cascade,
    since text not null,               -- given up so long after this
    tries integer not null,
    next_at text not null
);
create index webhook_aside_by_time on webhook_aside (next_at, event_id);
