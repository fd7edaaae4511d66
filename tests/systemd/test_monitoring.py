"""The alerting rules, checked with Prometheus' own tools."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "systemd" / "monitoring"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian package prometheus)",
)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
    )


@needs_promtool
def test_the_rules_are_valid():
    found = promtool("check", "rules", "her2d.rules.yml")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@needs_promtool
def test_each_alert_fires_and_clears_when_it_should():
    found = promtool("test", "rules", "her2d.rules.test.yml")
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_alert_has_its_section_in_the_runbook_and_its_test():
    alerts = re.findall(r"alert: (\w+)", (MONITORING / "her2d.rules.yml").read_text())
    sections = re.findall(r"^## (\w+)", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert alerts == sections
    tested = (MONITORING / "her2d.rules.test.yml").read_text()
    assert [alert for alert in alerts if alert not in tested] == []


def test_every_alert_names_its_section_of_the_runbook():
    rules = (MONITORING / "her2d.rules.yml").read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    assert re.findall(r"runbook: (.*)", rules) == [
        f"docs/runbook.md#{alert.lower()}" for alert in alerts
    ]
