"""`her2d browse`."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest


def test_without_a_database_it_is_one_clear_line(her2d):
    code, _, err = her2d("browse")
    assert code == 1
    assert "There is no database" in err


def test_a_port_that_is_in_use_is_one_clear_line(laboratory, her2d, write_slide):
    laboratory.run("scan", write_slide(["S"]))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = her2d("browse", "--port", port)
    assert (code, err) == (
        1,
        f"her2d: Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another"
        " --port.\n",
    )


def test_it_prints_the_address_and_serves_on_loopback_only(laboratory, write_slide):
    laboratory.run("scan", write_slide(["S"], "a.tif"))
    command = [sys.executable, "-m", "her2d", "browse", "--port", "0"]
    command += ["--config", str(laboratory.folder / "config.toml")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            url = process.stdout.readline().split()[3]
            assert url.startswith("http://127.0.0.1:")
            assert "a.tif" in fetched(url)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def fetched(url: str) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            return httpx.get(url, timeout=20).text
        except httpx.ConnectError:
            if time.monotonic() > deadline:
                pytest.fail("the server did not start")
            time.sleep(0.2)
