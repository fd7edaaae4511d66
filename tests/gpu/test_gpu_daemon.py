"""The daemon as a process on a compiled plan, with real files."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from built_once import built_once
from daemon_site import PATIENCE_S, Site
from simulated_gpu.account import accounts, has_worked, left_or_wrong

from her2d.bundle.loading import load_bundle
from her2d.inference.plans import PlanFiles, read_sidecar, write_sidecar
from her2d.queue.job import JobState

SHIPPED = Path(__file__).parents[2] / "engines" / "her2net-demo"

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="session")
def slides(gpu, shared_folder):
    """A folder with a simulated positive and a simulated negative slide."""

    def build(folder: Path) -> None:
        from her2d.simulator.motic import write_he_slide
        from her2d.simulator.plan import plan_slide

        for number, status in enumerate(("positive", "negative")):
            plan = plan_slide(
                f"s{number}", 77 + number, her2_status=status, width=2304, height=2048
            )
            write_he_slide(plan, folder / f"{status}.tif")

    return built_once(shared_folder / "slides-for-gpu", build)


@pytest.fixture
def site(tmp_path, request, backend, slides, is_simulated) -> Site:
    """A site whose daemon uses the shipped bundle's plan; the slides are in its inbox."""
    if is_simulated and backend == "tensorrt_rtx":
        pytest.skip(
            "simulated only for the engines' tests; for the daemon it does not differ from tensorrt"
        )
    folder = tmp_path / "bundle"
    shutil.copytree(request.getfixturevalue("shipped").directory, folder)
    site = Site.made(tmp_path / "site", load_bundle(folder))
    site.set("inference", backend=backend)
    site.set("pipeline", segmenter_batch=4, classifier_batch=4)
    shutil.copytree(slides, site.inbox, dirs_exist_ok=True)
    return site


@pytest.fixture
def simulated(is_simulated, tmp_path, monkeypatch):
    """The file of accounts that the simulated driver writes when this test's daemon ends."""
    if not is_simulated:
        pytest.skip("a real device writes no account and cannot be lost on request")
    report = tmp_path / "report.jsonl"
    monkeypatch.setenv("SIMULATED_GPU_REPORT", str(report))
    return report


def statuses(site: Site) -> dict[str, str]:
    return {name: result.her2_status for name, result in site.results().items()}


BOTH = {"positive.tif": "positive", "negative.tif": "negative"}


@pytest.fixture
def torch_site(tmp_path, slides, is_simulated) -> Site:
    """A site whose daemon runs the shipped bundle in torch on CUDA; the slides are in its inbox."""
    torch = pytest.importorskip("torch")
    if is_simulated or not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    shutil.copytree(SHIPPED, tmp_path / "bundle")
    site = Site.made(tmp_path / "site", load_bundle(tmp_path / "bundle"))
    site.set("inference", backend="torch", precision="fp16")
    site.set("pipeline", segmenter_batch=4, classifier_batch=4)
    shutil.copytree(slides, site.inbox, dirs_exist_ok=True)
    return site


def test_slides_are_scored_as_by_onnxruntime(site, tmp_path, slides):
    assert_scored_as_by_onnxruntime(site, tmp_path, slides)


def test_slides_are_scored_in_torch_as_by_onnxruntime(torch_site, tmp_path, slides):
    assert_scored_as_by_onnxruntime(torch_site, tmp_path, slides)


def assert_scored_as_by_onnxruntime(site: Site, tmp_path: Path, slides: Path) -> None:
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=2)
    reference = Site.made(tmp_path / "reference", load_bundle(tmp_path / "bundle"))
    reference.set("inference", backend="onnxruntime")
    shutil.copytree(slides, reference.inbox, dirs_exist_ok=True)
    with reference.daemon():
        reference.wait_for(JobState.DONE, jobs=2)
    assert statuses(site) == BOTH
    for name, expected in reference.results().items():
        found = site.results()[name]
        assert found.high_expression_percent == pytest.approx(
            expected.high_expression_percent, abs=0.5
        )


def test_an_unverified_plan_is_checked_before_the_first_slide_and_only_once(site, backend):
    files = PlanFiles(load_bundle(site.folder.parent / "bundle"), backend, "fp16")
    write_sidecar(files, read_sidecar(files).model_copy(update={"parity": None}))
    for checks in (1, 1):
        with site.daemon():
            site.wait_for(JobState.DONE, jobs=2)
        assert site.events()["plan_verified"] == checks
    logged = [line["event"] for line in site.lines()]
    assert logged.index("plan_verified") < logged.index("daemon_ready")


@pytest.mark.parametrize("signals", [1, 2])
def test_a_stop_during_scoring_leaves_nothing_on_the_device(simulated, site, signals):
    with site.daemon() as process:
        site.wait_until(lambda: site.events()["slide_started"] == 2)
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        process.wait(PATIENCE_S)
    (account,) = accounts(simulated)
    assert has_worked(account)
    assert left_or_wrong(account) == {}
    # The first stop waits for the slides in progress, the second returns them to the queue.
    assert site.count(JobState.DONE, *([JobState.QUEUED] if signals == 2 else [])) == 2


def test_a_device_that_is_lost_ends_the_daemon_by_75_and_the_next_one_goes_on(
    simulated, site, tmp_path, monkeypatch
):
    trigger = tmp_path / "lose"
    monkeypatch.setenv("SIMULATED_GPU_LOSE", str(trigger))
    slides = list(site.inbox.iterdir())
    aside = [shutil.move(slide, tmp_path / slide.name) for slide in slides]
    process = site.start()
    site.wait_until(lambda: site.events()["daemon_ready"] == 1)
    trigger.touch()
    for slide in aside:
        shutil.move(slide, site.inbox)
    assert process.wait(PATIENCE_S) == 75, site.log.read_text()
    assert not trigger.exists()
    assert site.count(JobState.FAILED, JobState.QUARANTINED) == 0
    with site.daemon():
        site.wait_for(JobState.DONE, jobs=2)
    assert statuses(site) == BOTH


def test_a_command_that_loses_the_device_ends_with_one_sentence(
    simulated, site, slides, tmp_path, monkeypatch
):
    trigger = tmp_path / "lose"
    trigger.touch()
    monkeypatch.setenv("SIMULATED_GPU_LOSE", str(trigger))
    command = [sys.executable, "-m", "her2d", "scan", "--config", str(site.config)]
    done = subprocess.run(
        [*command, str(slides / "positive.tif")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("her2d: The GPU is lost to this process: ")
    assert "PyCUDA" not in done.stderr


def test_both_networks_continue_in_halves_if_a_batch_does_not_fit(simulated, site):
    with site.daemon(SIMULATED_GPU_TILES="2"):
        site.wait_for(JobState.DONE, jobs=2)
    halved = {line["network"] for line in site.lines() if line["event"] == "batch_halved"}
    assert halved == {"segmenter", "classifiers"}
    assert statuses(site) == BOTH
