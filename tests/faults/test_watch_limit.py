"""The system's limit of inotify watches, the real one, in a separate user namespace."""

import subprocess

import pytest

from her2d.queue.job import JobState

pytestmark = pytest.mark.slow

# Deeper folders are what the limit leaves out: the inbox itself is watched first.
_LIMIT = 3
_PREFIX = (
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    f'echo {_LIMIT} > /proc/sys/user/max_inotify_watches && exec "$@"',
    "sh",
)


@pytest.fixture
def few_watches() -> tuple[str, ...]:
    try:
        subprocess.run([*_PREFIX, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a user namespace cannot be had here: {error}")
    return _PREFIX


def test_folders_beyond_the_limit_of_watches_are_polled_and_that_is_logged(
    site, write_slide, few_watches
):
    folders = [site.inbox / f"day-{number}" for number in range(6)]
    for folder in folders:
        folder.mkdir()
    with site.daemon(prefix=few_watches):
        site.wait_until(lambda: site.events()["inbox_events_unavailable"] == 1)
        for number, folder in enumerate(folders):
            write_slide(["Sw", "ww"], f"{number}.tif", folder=folder)
        site.wait_for(JobState.DONE, JobState.DUPLICATE, jobs=6)
    (logged,) = [line for line in site.lines() if line["event"] == "inbox_events_unavailable"]
    assert "fewer folders are watched than there are" in logged["reason"]


def test_if_every_folder_is_watched_nothing_is_polled(site, write_slide):
    for number in range(6):
        (site.inbox / f"day-{number}").mkdir()
    with site.daemon():
        write_slide(["Sw"], "a.tif", folder=site.inbox / "day-5")
        site.wait_for(JobState.DONE)
        site.wait_until(lambda: site.events()["slide_finished"] == 1)
    assert site.events()["inbox_events_unavailable"] == site.events()["inbox_folder_polled"] == 0
