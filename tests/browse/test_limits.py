"""Limits of time, memory and threads: no request keeps the others waiting."""

import asyncio
import contextlib
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from her2d.browse import routes
from her2d.browse.database import QueryTooHeavy, ResultsDatabase
from her2d.browse.workers import TooBusy, Workers
from her2d.db.connection import DatabaseError, open_database

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


@pytest.fixture
def path(tmp_path):
    open_database(tmp_path / "her2d.sqlite").close()
    return tmp_path / "her2d.sqlite"


def test_a_query_is_stopped_after_its_time(path):
    database = ResultsDatabase(path, seconds=0.3)
    with pytest.raises(QueryTooHeavy, match=r"took longer than 0\.3 s"):
        database.run(lambda db: db.execute(ENDLESS).fetchone())


@pytest.mark.parametrize(
    "statement", ["delete from runs", "create table x (i)", "pragma user_version = 9", "vacuum"]
)
def test_no_query_can_change_the_database(path, statement):
    before = path.read_bytes()
    with pytest.raises(DatabaseError, match="cannot be read: attempt to write a readonly database"):
        ResultsDatabase(path).run(lambda db: db.execute(statement))
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        # Much in one value, in a sorter, and in a set.
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 900)"
        " select length(group_concat(hex(zeroblob(1000000)))) from n",
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 3000000)"
        " select i, hex(zeroblob(500)) as t from n order by t || i limit 1 offset 2999999",
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 3000000)"
        " select count(distinct i || hex(zeroblob(500))) from n",
    ],
)
def test_a_query_that_needs_too_much_memory_is_refused_and_the_next_one_is_answered(path, query):
    script = f"""
import resource, sys
from pathlib import Path
from her2d.browse.database import QueryTooHeavy, ResultsDatabase, limit_memory_of_queries
limit_memory_of_queries()
database = ResultsDatabase(Path(sys.argv[1]), seconds=3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print("answered", database.run(lambda db: db.execute({query!r}).fetchone()))
except QueryTooHeavy as error:
    print(error)
print(database.run(lambda db: db.execute("select 'still here'").fetchone()[0]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", script, str(path)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    refused, second, grown_kib = found.stdout.splitlines()
    assert second == "still here"
    assert int(grown_kib) < 200 * 1024
    assert refused.startswith(("The query needs too much memory.", "The query took longer"))


def test_a_missing_or_foreign_database_is_a_sentence(own_site):
    database = own_site.folder / "her2d.sqlite"
    kept = database.rename(own_site.folder / "kept")
    gone = own_site.get("/")
    assert (gone.status_code, gone.headers["retry-after"]) == (503, "2")
    assert gone.text.startswith("There is no database ")
    with closing(sqlite3.connect(database)) as other:
        other.execute("create table notes (text)")
    assert own_site.get("/").status_code == 503
    database.unlink()
    kept.rename(database)
    assert own_site.get("/").status_code == 200


@pytest.mark.parametrize("lock", ["begin immediate", "begin exclusive"])
def test_everything_is_answered_while_another_program_holds_the_write_lock(own_site, lock):
    with closing(sqlite3.connect(own_site.folder / "her2d.sqlite")) as db:
        db.isolation_level = None
        db.execute(lock)
        db.execute("update slides set barcode = 'x'")
        for address in ("/", "/slides/1", "/pictures/1/overlay.png", "/queries/results.csv"):
            assert own_site.get(address).status_code == 200
        db.execute("rollback")


def test_a_database_that_is_locked_as_a_whole_is_a_sentence_after_a_moment(own_site):
    with closing(sqlite3.connect(own_site.folder / "her2d.sqlite")) as db:
        db.execute("pragma locking_mode = exclusive")
        db.execute("update slides set barcode = 'x'")
        refused = own_site.get("/")
        assert refused.status_code == 503
        assert "locked" in refused.text
    assert own_site.get("/").status_code == 200


@pytest.fixture
def held(monkeypatch):
    """Searches that do not end before the event is set."""
    go_on, slide_list = threading.Event(), routes.slide_list

    def slow(db, query):
        if query.text:
            assert go_on.wait(600)
        return slide_list(db, query)

    monkeypatch.setattr(routes, "slide_list", slow)
    yield go_on
    go_on.set()


def test_heavy_searches_keep_nothing_else_waiting(own_site, held):
    with ThreadPoolExecutor(40) as pool:
        searches = [pool.submit(own_site.get, "/?text=a") for _ in range(10)]
        time.sleep(0.5)
        for address in (
            "/",
            "/?status=positive",
            "/slides/1",
            "/pictures/1/tiles/11/0_0.jpg",
            "/queries/results.csv",
        ):
            assert own_site.get(address).status_code == 200
        assert not any(search.done() for search in searches)
        held.set()
        assert {search.result().status_code for search in searches} == {200}


def test_more_requests_than_may_wait_are_refused_at_once(own_site, held):
    with ThreadPoolExecutor(40) as pool:
        searches = [pool.submit(own_site.get, "/?text=a") for _ in range(40)]
        deadline = time.monotonic() + 30
        while sum(each.done() for each in searches) < 18 and time.monotonic() < deadline:
            time.sleep(0.05)
        refused = [search.result() for search in searches if search.done()]
        assert {each.status_code for each in refused} == {503}
        assert {each.text for each in refused} == {
            "Too many requests of this kind are waiting. Try again in a moment."
        }
        held.set()
        answered = [search.result().status_code for search in searches]
    assert answered.count(200) == 22


def test_work_that_takes_too_long_is_given_up():
    go_on = threading.Event()
    workers = Workers("test", threads=1, waiting=1, timeout_s=0.2)
    with pytest.raises(TooBusy, match=r"no answer within 0\.2 s"):
        asyncio.run(_run(workers, lambda: go_on.wait(30)))
    go_on.set()
    workers._timeout_s = 60
    assert asyncio.run(_run(workers, lambda: 7)) == 7
    workers.close()


async def _run(workers, work):
    return await workers.run(work)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: "])
def test_a_connection_without_a_whole_request_is_closed(monkeypatch, own_site, sent):
    monkeypatch.setattr("her2d.browse.server._IDLE_S", 0.5)
    port = int(re.search(r":(\d+)$", own_site.url)[1])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as client,
        contextlib.suppress(ConnectionError),  # closed before all was sent
    ):
        client.sendall(sent)
        assert client.recv(100) == b""
    assert own_site.get("/").status_code == 200
