"""`her2d browse`."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

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
        code, out, err = her2d("browse", "--port", port)
    assert (code, out, err) == (
        1,
        "",
        f"her2d: Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another"
        " --port.\n",
    )


@pytest.fixture
def browse(laboratory, write_slide):
    """Start `her2d browse`; what it printed until the end is in the list afterwards."""
    laboratory.run("scan", write_slide(["S"], "a.tif"))
    started = []

    def browse(*options: str) -> tuple[str, subprocess.Popen]:
        command = [sys.executable, "-m", "her2d", "browse", "--port", "0", *options]
        command += ["--config", str(laboratory.folder / "config.toml")]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process.stdout.readline().split()[3], process

    yield browse
    for process in started:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.mark.slow
def test_the_printed_address_is_all_that_is_needed_and_its_token_is_in_no_log(browse):
    address, process = browse()
    url, token = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)\?token=(.{43})", address).groups()
    assert "a.tif" in fetched(address)
    assert httpx.get(url).status_code == 401
    port = httpx.URL(url).port
    for sent in (b"\x16\x03\x01 hello\r\n\r\n", f"GET /?token={token}\x00 HTTP/9\r\n\r\n".encode()):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(sent)
            client.recv(1000)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert token not in out + err
    assert "Traceback" not in err


@pytest.mark.slow
def test_each_start_has_a_new_token(browse):
    first, second = browse()[0], browse()[0]
    token = first.partition("token=")[2]
    fetched(first)
    fetched(second)
    refused = httpx.get(second.partition("?")[0], headers={"authorization": f"Bearer {token}"})
    assert refused.status_code == 401


@pytest.mark.slow
def test_without_a_token_it_warns_and_still_answers_no_other_site(browse):
    url, process = browse("--no-token")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    assert "a.tif" in fetched(url)
    assert httpx.get(url, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert httpx.get(url, headers={"host": "evil.example"}).status_code == 421
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "Every user of this machine can see them.\n"


@pytest.mark.slow
def test_it_listens_on_loopback_only(browse):
    url, _ = browse()
    fetched(url)
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{httpx.URL(url).port:04X}")
    ]
    assert listening == [f"0100007F:{httpx.URL(url).port:04X}"]


def fetched(url: str) -> str:
    deadline = time.monotonic() + 60
    with httpx.Client(follow_redirects=True, timeout=60) as client:
        while True:
            try:
                return client.get(url).text
            except httpx.ConnectError:
                if time.monotonic() > deadline:
                    pytest.fail("the server did not start")
                time.sleep(0.2)
