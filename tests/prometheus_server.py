"""Run a real Prometheus server for one test."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from daemon_site import PATIENCE_S

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian package prometheus)",
)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus server."""

    port: int

    def query(self, promql: str) -> dict[str, float]:
        """Return the values of an instant query by their only label, or by '' without a label."""
        rows = self.get("query", query=promql)["result"]
        return {_label(row["metric"]): float(row["value"][1]) for row in rows}

    def get(self, what: str, **parameters: str) -> Any:
        """Query https://prometheus.io/docs/prometheus/latest/querying/api/."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}"
        return httpx.get(url, params=parameters).raise_for_status().json()["data"]

    def firing(self) -> set[str]:
        """Return the alerts that are firing."""
        rows = self.get("query", query='ALERTS{alertstate="firing"}')["result"]
        return {row["metric"]["alertname"] for row in rows}

    def wait_for(self, promql: str) -> dict[str, float]:
        """Wait until the query has values, and return them."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if found := self.query(promql):
                    return found
            except httpx.HTTPError:
                pass  # it is still starting
            time.sleep(0.2)
        raise AssertionError(f"{promql} returned nothing within {PATIENCE_S} s")


def _label(metric: dict[str, str]) -> str:
    scraped = ("__name__", "instance", "job")
    return ",".join(value for key, value in metric.items() if key not in scraped)


@contextmanager
def prometheus(folder: Path, daemon_port: int, rules: Path | None = None) -> Iterator[Prometheus]:
    """Run a server that scrapes the daemon every second and evaluates the alerting rules."""
    port = _free_port()
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{rules or ''}]\n"
        "scrape_configs:\n"
        "  - job_name: her2d\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{daemon_port}']}}]\n"
    )
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield Prometheus(port)
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
