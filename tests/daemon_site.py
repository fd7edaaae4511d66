"""Run the real daemon as a process on real files, for tests/e2e and tests/faults."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from her2d.bundle.loading import Bundle
from her2d.db.connection import DatabaseError, open_readonly
from her2d.queue.job import Job, JobState
from her2d.queue.store import JobQueue
from her2d.results.listing import list_results
from her2d.results.records import SlideResult

PATIENCE_S = 240  # for a machine under load; all waits end as soon as they can

# Everything in a result except times, paths and ids.
_SCORES = """
    select file_name, her2_status, slide_results.reason, high_expression_percent, ci_low, ci_high,
           borderline, slide_results.tumor_pixels, strong_pixels, tiles_total, tiles_tissue,
           tiles_tumor, tiles_strong, tiles_unreadable, tile_row, tile_column, tile_class,
           tiles.tumor_pixels, p_strong, p_fold_1, p_fold_2, p_fold_3, p_fold_4, p_fold_5
    from slide_results left join tiles on tiles.run_id = slide_results.run_id
    order by file_name, tile_row, tile_column
"""


def http_get(port: int, path: str) -> tuple[int, str]:
    """Send a GET request to this machine, and return the status and text of the response."""
    try:
        address = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@dataclass(frozen=True)
class Site:
    """A folder with an inbox, settings and a database, in which a daemon can be run."""

    folder: Path
    database: Path

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    @classmethod
    def made(cls, folder: Path, bundle: Bundle) -> "Site":
        """Create a site with the bundle, and with intervals that are short enough for a test."""
        site = cls(folder, folder / "her2d.sqlite")
        site.inbox.mkdir(parents=True)
        site.config.write_text(
            f'[bundle]\npath = "{bundle.directory}"\n'
            "[intake]\nsettle_s = 0.4\nsweep_s = 1.0\npoll_s = 0.5\nincomplete_after_s = 3.0\n"
            "min_free_mb = 0\n"
            "[inference]\nthreads = 1\n[pipeline]\n[results]\n[ops]\nport = 0\n"
            'log_format = "json"\n'
        )
        return site

    def set(self, section: str, **values: object) -> None:
        """Set keys in a section of config.toml."""
        lines = "".join(
            f"{key} = {json.dumps(str(value) if isinstance(value, Path) else value)}\n"
            for key, value in values.items()
        )
        kept = [
            line
            for line in self.config.read_text().splitlines()
            if line.partition(" =")[0] not in values
        ]
        text = "\n".join(kept) + "\n"
        self.config.write_text(text.replace(f"[{section}]\n", f"[{section}]\n{lines}"))

    def start(self, *, prefix: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        """Start a daemon, whose log is appended to `log`."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*prefix, sys.executable, "-m", "her2d", "run", "--config", str(self.config)],
                stderr=log,
                env={**os.environ, **environment},
            )

    @contextlib.contextmanager
    def daemon(self, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Start a daemon, wait until it is ready, and check that it stops cleanly afterwards."""
        before = self.events()["daemon_ready"]
        process = self.start(**options)
        try:
            self.wait_until(
                lambda: self.events()["daemon_ready"] > before or process.poll() is not None
            )
            assert process.poll() is None, self.log.read_text()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()
        log = self.log.read_text()
        assert process.returncode == 0, log
        assert "Traceback" not in log, log
        assert json.loads(log.splitlines()[-1])["event"] == "daemon_stopped"

    def command(self, *arguments: str) -> str:
        """Run `her2d ...` and return what it prints."""
        command = [sys.executable, "-m", "her2d", *arguments, "--config", str(self.config)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def events(self) -> Counter[str]:
        """Count how often each event has been logged."""
        return Counter(line["event"] for line in self.lines())

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines that have been logged, without an incomplete last one."""
        if not self.log.exists():
            return []
        text = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def port(self) -> int:
        """Return the port on which the last daemon serves its metrics."""
        ready = [line for line in self.lines() if line["event"] == "daemon_ready"]
        return int(ready[-1]["port"])

    def answer(self, path: str) -> tuple[int, str]:
        """Send a GET request to the daemon, and return the status and text of the response."""
        return http_get(self.port(), path)

    def wait_for_503(self, path: str) -> str:
        """Wait until the daemon is not healthy, or not ready, and return the reason."""
        answers: list[tuple[int, str]] = []
        self.wait_until(lambda: answers.append(self.answer(path)) or answers[-1][0] == 503)
        return answers[-1][1]

    def results(self) -> dict[str, SlideResult]:
        with contextlib.closing(open_readonly(self.database)) as db:
            return {result.file_name: result for result in list_results(db)}

    def scores(self) -> list[tuple[Any, ...]]:
        """Return every current result with its tiles, without times and ids."""
        with contextlib.closing(open_readonly(self.database)) as db:
            return list(db.execute(_SCORES).fetchall())

    def runs(self) -> int:
        """Return the number of all results that were recorded, current or not."""
        with contextlib.closing(open_readonly(self.database)) as db:
            return int(db.execute("select count(*) from runs").fetchone()[0])

    def integrity(self) -> str:
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            return str(db.execute("pragma integrity_check").fetchone()[0])

    def jobs(self, *states: JobState) -> list[Job]:
        with contextlib.closing(open_readonly(self.database)) as db:
            return JobQueue(db).in_state(*states)

    def job(self, path: Path) -> Job | None:
        """The job of that file, if there is one."""
        return next((job for job in self.jobs() if job.path == path), None)

    def wait_for_job(self, path: Path, state: JobState) -> Job:
        """Return that file's job once it is in `state`."""

        def is_there() -> bool:
            job = self.job(path)
            return job is not None and job.state is state

        self.wait_until(is_there)
        job = self.job(path)
        assert job is not None
        return job

    def count(self, *states: JobState) -> int:
        """Return the number of jobs in these states."""
        with contextlib.closing(open_readonly(self.database)) as db:
            counts = JobQueue(db).counts()
        return sum(counts[state] for state in states)

    def wait_until(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Return once `condition` holds."""
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < patience_s:
            with contextlib.suppress(DatabaseError, sqlite3.Error):
                if condition():
                    return
            # What takes long is asked for less often: to ask may cost more than what is waited for.
            time.sleep(min(0.05 + waited / 40, 0.5))
        log = self.log.read_text()[-5000:] if self.log.exists() else "no log"
        raise AssertionError(f"the condition did not become true; {log}")

    def wait_for(
        self, *states: JobState, jobs: int = 1, patience_s: float = PATIENCE_S
    ) -> list[Job]:
        """Wait until at least `jobs` jobs are in `states`, and return them."""
        self.wait_until(lambda: self.count(*states) >= jobs, patience_s)
        return self.jobs(*states)
