-- How far the webhook has come in `events`: one row, written after each delivery.

create table webhook_cursor (
    id integer primary key check (id = 1),
    event_id integer not null,
    at text not null
);
