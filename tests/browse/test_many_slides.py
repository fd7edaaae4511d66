"""The real command on a database of 100,000 slides, under hostile requests."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from many_slides import add_scored_slides

pytestmark = pytest.mark.slow

SLIDES = 100_000
MOST_MIB = 700
SEARCHES = [
    "/?text=m",
    "/?text=%25_%25_%25",
    "/?text=zz&sort=name&flag=off-scale",
    "/?sort=margin&page=1600",
    "/?status=positive&sort=percent&page=800",
]
DOWNLOADS = ["/queries/results.csv", "/queries/files.csv", "/queries/throughput.json"]


@pytest.fixture
def served(own_laboratory):
    folder = own_laboratory
    add_scored_slides(folder / "her2d.sqlite", [number % 100 for number in range(SLIDES)])
    command = [sys.executable, "-m", "her2d", "browse", "--port", "0"]
    command += ["--config", str(folder / "config.toml")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def test_heavy_requests_neither_delay_the_list_nor_take_all_memory(served):
    address = served.stdout.readline().split()[3]
    url, _, token = address.partition("/?token=")
    client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=120)
    most = 0.0
    with ThreadPoolExecutor(27) as pool:
        heavy = [pool.submit(client.get, path) for path in SEARCHES * 3 + DOWNLOADS]
        listed = 0
        while not all(each.done() for each in heavy):
            assert client.get("/").status_code == 200
            listed += 1
            most = max(most, resident_mib(served.pid))
        answers = [each.result() for each in heavy]
    assert {answer.status_code for answer in answers} <= {200, 404, 503}
    whole = next(each for each in answers if each.url.path.endswith("results.csv"))
    assert whole.status_code == 200
    assert whole.text.count("\n") == SLIDES + 4
    assert listed > 10  # while the heavy ones were worked on
    assert most < MOST_MIB
    served.send_signal(signal.SIGINT)
    _, log = served.communicate(timeout=60)
    assert log == ""
    assert token not in log


def resident_mib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20
