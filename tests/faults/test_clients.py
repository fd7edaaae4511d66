"""Clients of the ops port, a taken port, a locked database and an unread log: slides go on."""

import contextlib
import fcntl
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

import pytest

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def clients(port: int, number: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(number):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(first)
            found.append(client)
        yield found


def test_400_idle_and_100_slow_clients_delay_no_slide_and_no_probe(site, write_slide):
    with site.daemon():
        with clients(site.port(), 400), clients(site.port(), 100, b"GET /metrics HT"):
            for number in range(5):
                write_slide(["SwSw"], f"{number}.tif", folder=site.inbox)
            assert site.answer("/healthz")[0] == 200
            jobs = site.wait_for(JobState.DONE, jobs=5)
        assert [job.attempts for job in jobs] == [1] * 5


def test_a_taken_port_does_not_stop_slides_and_is_served_once_it_is_free(site, write_slide):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        site.set("ops", port=port)
        process = site.start()
        try:
            write_slide(["Sw"], "a.tif", folder=site.inbox)
            site.wait_for(JobState.DONE)
            (line,) = [line for line in site.lines() if line["event"] == "ops_port_unavailable"]
            assert f"Cannot listen on 127.0.0.1:{port}: address already in use." in line["reason"]
            other.close()
            site.wait_until(lambda: site.events()["ops_port_available"] == 1)
        finally:
            process.terminate()
            process.wait()


def test_a_lock_of_the_database_delays_neither_probes_nor_scrapes(site, write_slide):
    with site.daemon():
        site.answer("/metrics")
        with contextlib.closing(sqlite3.connect(site.database)) as other:
            other.execute("begin immediate")
            write_slide(["Sw"], "a.tif", folder=site.inbox)
            site.wait_for_503("/readyz")
            assert site.answer("/healthz")[0] == 200
            status, text = site.answer("/metrics")
            assert (status, "her2d_jobs{" in text) == (200, True)
            site.wait_until(lambda: "her2d_results_writable 0.0" in site.answer("/metrics")[1])
            other.rollback()
        site.wait_for(JobState.DONE)


def test_a_log_that_nobody_reads_stops_no_slide(site, write_slide):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "her2d", "run", "--config", str(site.config)]
    # One line is longer than the pipe.
    site.set("ops", log_level="debug")
    process = subprocess.Popen(command, stderr=writing)
    os.close(writing)
    try:
        for number in range(20):
            write_slide(["Sw"], f"{number}.tif", folder=site.inbox)
        site.wait_for(JobState.DONE, jobs=20)
    finally:
        process.terminate()
        with os.fdopen(reading) as log:
            lines = [json.loads(line) for line in log if line.startswith("{")]
        assert process.wait() == 0
    assert lines[-1]["event"] == "daemon_stopped"
