"""Every line on the stream of a JSON log is JSON and begins with its event."""

import json
import os
import signal
from pathlib import Path

import pytest
from daemon_site import PATIENCE_S, Site

from her2d.bundle.loading import load_bundle
from her2d.queue.job import JobState
from her2d.settings import PACKAGE_DATA
from her2d.simulator.motic import write_he_slide
from her2d.simulator.plan import plan_slide

pytestmark = pytest.mark.slow

# ONNX Runtime writes such a line where it finds a graphics card without a driver, libtiff where a
# tag is unknown, and Python where a module is old.
NOISE = """
import os, sys, warnings
class Noisy:
    def find_spec(self, name, *_):
        if name in ("onnxruntime", "cv2"):
            os.write(2, f"[W:{name}:Default, device_discovery.cc:164] no GPU\\n".encode())
        if name == "zxingcpp":
            warnings.warn("an old way", UserWarning)
            print("printed", file=sys.stderr)
sys.meta_path.insert(0, Noisy())
"""


@pytest.fixture
def site(tmp_path) -> Site:
    site = Site.made(tmp_path / "site", load_bundle(PACKAGE_DATA / "her2net-demo"))
    (site.folder / "sitecustomize.py").write_text(NOISE)
    return site


def objects(log: Path) -> list[dict]:
    lines = log.read_text().splitlines()
    for line in lines:
        assert line.startswith('{"event": "'), line
    return [json.loads(line) for line in lines]


def noise_first(site: Site) -> str:
    return f"{site.folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


def test_every_line_of_a_daemon_that_scores_a_slide_is_json(site):
    plan = plan_slide("one", 1, her2_status="positive", width=1100, height=1100)
    with site.daemon(PYTHONPATH=noise_first(site)):
        write_he_slide(plan, site.inbox / "a.tif")
        site.wait_for(JobState.DONE)
    found = objects(site.log)
    assert {"daemon_ready", "slide_finished", "daemon_stopped"} <= {line["event"] for line in found}
    noise = {line["line"] for line in found if line["event"] == "stderr_line"}
    assert noise == {
        "[W:onnxruntime:Default, device_discovery.cc:164] no GPU",
        "[W:cv2:Default, device_discovery.cc:164] no GPU",
        "printed",
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_the_log_of_a_daemon_that_is_killed_is_json_to_its_end(site, number):
    process = site.start(PYTHONPATH=noise_first(site))
    site.wait_until(lambda: site.events()["daemon_ready"] == 1)
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == -number
    said = "Fatal Python error" if number != signal.SIGKILL else "no GPU"
    site.wait_until(lambda: said in site.log.read_text())
    objects(site.log)


def test_a_daemon_that_cannot_start_says_why_in_json(site):
    site.set("results", database=str(site.folder / "site.tif" / "her2d.sqlite"))
    (site.folder / "site.tif").write_text("not a folder")
    assert site.start().wait(PATIENCE_S) == 1
    last = objects(site.log)[-1]
    assert (last["event"], last["level"]) == ("daemon_failed", "critical")
    assert "site.tif" in last["reason"]


def test_a_daemon_whose_settings_are_wrong_says_so_in_json(site):
    site.set("intake", settle_s=-1)
    assert site.start().wait(PATIENCE_S) == 1
    (line,) = objects(site.log)
    assert line["event"] == "daemon_failed"
    assert "settle_s" in line["reason"]
