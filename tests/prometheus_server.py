"""Run a real Prometheus server, or Alertmanager and a mail server beside it, for one test."""

import email
import email.policy
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


_ALERTMANAGER = "prometheus-alertmanager"  # as Debian names it

needs_alertmanager = pytest.mark.skipif(
    shutil.which(_ALERTMANAGER) is None or shutil.which("amtool") is None,
    reason="alertmanager is not installed (Debian package prometheus-alertmanager)",
)


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus server."""

    port: int

    def query(self, promql: str, at: float | None = None) -> dict[str, float]:
        """Return the values of an instant query by their only label, or by '' without a label.

        Args:
            promql: the query.
            at: the moment, in seconds since 1970; now by default.
        """
        moment = {} if at is None else {"time": f"{at:.3f}"}
        rows = self.get("query", query=promql, **moment)["result"]
        return {_label(row["metric"]): float(row["value"][1]) for row in rows}

    def get(self, what: str, **parameters: str) -> Any:
        """Query https://prometheus.io/docs/prometheus/latest/querying/api/."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}"
        answer = httpx.get(url, params=parameters, timeout=PATIENCE_S)
        return answer.raise_for_status().json()["data"]

    def firing(self) -> set[str]:
        """Return the alerts that are firing."""
        rows = self.get("query", query='ALERTS{alertstate="firing"}')["result"]
        return {row["metric"]["alertname"] for row in rows}

    def when(self, promql: str) -> float:
        """Wait until the query has values, and return a moment at which it has them.

        A scrape that comes too late on a busy machine has no values for a second. Other queries
        at that moment read the same scrape.
        """
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):  # it is still starting
                if rows := self.get("query", query=promql)["result"]:
                    return float(rows[0]["value"][0])
            time.sleep(0.2)
        raise AssertionError(f"{promql} returned nothing within {PATIENCE_S} s")

    def wait_for(self, promql: str) -> dict[str, float]:
        """Wait until the query has values, and return them."""
        return self.query(promql, self.when(promql))


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


class _MailServer(socketserver.ThreadingTCPServer):
    """Takes every mail, as far as SMTP needs it, and keeps its text."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MailHandler)
        self.mails: list[str] = []


class _MailHandler(socketserver.StreamRequestHandler):
    server: _MailServer

    def handle(self) -> None:
        self._say("220 localhost")
        while line := self.rfile.readline():
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                self._say("354 go on")
                self.server.mails.append(_text_of(self._read_mail()))
                self._say("250 taken")
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 localhost")

    def _read_mail(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return b"".join(lines)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


def _text_of(mail: bytes) -> str:
    """Return the headers and all texts of a mail."""
    message = email.message_from_bytes(mail, policy=email.policy.default)
    parts = [part.get_content() for part in message.walk() if part.get_content_maintype() == "text"]
    lines = [*(f"{name}: {value}" for name, value in message.items()), *parts]
    return "\n".join(lines).replace("\r\n", "\n")


@dataclass(frozen=True)
class Stack:
    """A running Prometheus and Alertmanager, and the mail server that Alertmanager sends to."""

    prometheus: Prometheus
    alertmanager: str
    mail_server: _MailServer
    folder: Path

    def wait_until_ready(self) -> None:
        """Wait until Alertmanager answers."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://{self.alertmanager}/-/ready").is_success:
                    return
            time.sleep(0.2)
        raise AssertionError((self.folder / "alertmanager.log").read_text())

    def suppressed(self) -> set[tuple[str, str]]:
        """Return the name and instance of each alert that another one keeps from being sent."""
        found = httpx.get(f"http://{self.alertmanager}/api/v2/alerts").raise_for_status().json()
        return {
            (alert["labels"]["alertname"], alert["labels"]["instance"])
            for alert in found
            if alert["status"]["inhibitedBy"]
        }

    def wait_for_mail(self) -> str:
        """Return the first mail, once it was sent."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.mail_server.mails:
            assert time.monotonic() < deadline, (self.folder / "alertmanager.log").read_text()
            time.sleep(0.2)
        return self.mail_server.mails[0]


@contextmanager
def stack(folder: Path, configuration: Path) -> Iterator[Stack]:
    """Run both servers with the files of a folder, on free ports and with shorter intervals."""
    port, alertmanager_port, daemon_port = _free_port(), _free_port(), _free_port()
    with _MailServer() as mail_server:
        changes = {
            "127.0.0.1:9090": f"127.0.0.1:{port}",
            "127.0.0.1:9093": f"127.0.0.1:{alertmanager_port}",
            "127.0.0.1:9464": f"127.0.0.1:{daemon_port}",
            "127.0.0.1:25": f"127.0.0.1:{mail_server.server_address[1]}",
            "/etc/prometheus/": f"{folder}/",
            "interval: 15s": "interval: 1s",
            "for: 30s": "for: 1s",
            "group_wait: 10s": "group_wait: 1s",
        }
        for name in ("prometheus.yml", "alertmanager.yml", "her2d.rules.yml"):
            text = (configuration / name).read_text()
            for before, after in changes.items():
                text = text.replace(before, after)
            (folder / name).write_text(text)
        threading.Thread(target=mail_server.serve_forever, daemon=True).start()
        alertmanager = [
            _ALERTMANAGER,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{alertmanager_port}",
            "--cluster.listen-address=",
        ]
        prometheus = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (
            _running(alertmanager, folder / "alertmanager.log"),
            _running(prometheus, folder / "prometheus.log"),
        ):
            yield Stack(Prometheus(port), f"127.0.0.1:{alertmanager_port}", mail_server, folder)
        mail_server.shutdown()


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
