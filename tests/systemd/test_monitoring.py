"""Alerts, dashboard, and the stack that brings them up, checked with Prometheus' own tools."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import needs_alertmanager, needs_prometheus, stack

from tools.docs.metrics import families

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "systemd" / "monitoring"
RULES = MONITORING / "her2d.rules.yml"
TESTS = ("her2d.rules.test.yml", "her2d.rules.days.test.yml")
SEVERITIES = {"critical", "warning", "info"}
FEWEST = r"her2d_(day|ihc_drift)_\w*(results|slides) (>=|<) \d\d"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian package prometheus)",
)


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, check=False)


def read(name: str) -> Any:
    return yaml.safe_load((MONITORING / name).read_text())


def alerts() -> list[dict[str, Any]]:
    return [rule for group in read("her2d.rules.yml")["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return content


def panels(kind: str | None = None) -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if kind in (None, panel["type"])]


def shown(what: object) -> set[str]:
    """Return the metrics that are named, without the parts of histograms."""
    found = re.findall(r"\bher2d_[a-z_]+", json.dumps(what))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


# The rules


@needs_promtool
def test_the_rules_are_valid():
    found = tool("promtool", "check", "rules", "her2d.rules.yml")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@needs_promtool
def test_each_alert_fires_and_clears_when_it_should():
    found = tool("promtool", "test", "rules", *TESTS)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_alert_has_its_section_in_the_runbook_and_its_test():
    names = [alert["alert"] for alert in alerts()]
    sections = re.findall(r"^## (\w+)", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert names == sections
    tests = [test for name in TESTS for test in read(name)["tests"]]
    normal_day = {test["alertname"] for test in tests[0]["alert_rule_test"]}
    assert normal_day == set(names)
    firing = json.dumps([test for test in tests if "normal" not in test["name"]])
    assert [name for name in names if name not in firing] == []


def test_every_alert_links_to_its_section_of_the_runbook_on_the_documentation_site():
    (site,) = re.findall(r"^site_url: (\S+)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    for alert in alerts():
        link = f"{site}runbook.html#{alert['alert'].lower()}"  # use_directory_urls is off
        assert alert["annotations"]["runbook_url"] == link


def test_every_alert_says_what_is_wrong_and_how_severe_it_is():
    for alert in alerts():
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["labels"]["severity"] in SEVERITIES
    assert {alert["labels"]["severity"] for alert in alerts()} == SEVERITIES


def test_no_alert_compares_the_daemons_times_with_the_clock_of_prometheus():
    assert [alert["alert"] for alert in alerts() if re.search(r"\btime\(\)", alert["expr"])] == []


def test_every_alert_about_a_share_of_slides_asks_for_a_least_number_of_them():
    of_slides = [
        alert
        for alert in alerts()
        if re.search(r"_ratio\b|_distance\b|her2d_tiles_total", alert["expr"])
    ]
    assert len(of_slides) >= 4
    assert [alert["alert"] for alert in of_slides if not re.search(FEWEST, alert["expr"])] == []


# The dashboard


def test_every_metric_of_an_alert_or_a_panel_exists_and_every_metric_has_a_panel():
    exist = {family.name for family in families() if family.name.startswith("her2d_")}
    assert shown([alert["expr"] for alert in alerts()]) <= exist
    assert shown(panels()) == exist


def test_every_stat_has_thresholds_in_ascending_order_that_its_description_explains():
    stats = panels("stat")
    assert len(stats) > 20
    for stat in stats:
        title, defaults = stat["title"], stat["fieldConfig"]["defaults"]
        thresholds = defaults["thresholds"]
        limits = [step["value"] for step in thresholds["steps"]]
        colors = {step["color"] for step in thresholds["steps"]}
        assert thresholds["mode"] == "absolute", title
        assert limits[0] is None, title
        assert limits[1:] == sorted(set(limits[1:])), title
        assert "green" in colors, title
        assert colors & {"orange", "red"}, title
        assert stat["options"]["colorMode"] == "background", title
        has_text = any(kind["type"] == "value" for kind in defaults.get("mappings", []))
        named = re.findall("orange|red", stat["description"].lower())
        assert has_text or set(named) == colors - {"green"}, title


def test_a_stat_is_red_from_where_its_alert_fires():
    """Alerts of the form `metric > number`."""
    limits = {}
    for alert in alerts():
        if simple := re.fullmatch(r"(her2d_\w+) > ([\d.e* ]+)", alert["expr"].strip()):
            limits[simple[1]] = math.prod(map(float, simple[2].split("*")))
    compared = 0
    for stat in panels("stat"):
        metric = re.fullmatch(r"(her2d_\w+)\{[^}]*\}", stat["targets"][0]["expr"])
        if metric is None or metric[1] not in limits or not limits[metric[1]]:
            continue
        steps = stat["fieldConfig"]["defaults"]["thresholds"]["steps"]
        red = [step["value"] for step in steps if step["color"] == "red"]
        assert red == [limits[metric[1]]], stat["title"]
        compared += 1
    assert compared >= 5


@needs_promtool
@pytest.mark.parametrize(
    ("limits", "shown_as"),
    [("segment", ("segment", 0.97)), ("waiting for slides", ("waiting for slides", 0))],
)
def test_the_bottleneck_is_shown_by_its_name_with_the_share_of_the_time(tmp_path, limits, shown_as):
    (panel,) = (stat for stat in panels("stat") if stat["title"] == "Bottleneck")
    (target,) = panel["targets"]
    assert (target["legendFormat"], panel["options"]["textMode"]) == (
        "{{stage}}",
        "value_and_name",
    )
    busy = {"decode": 0.4, "segment": 0.97, "classify": 0.3}
    of = 'job="her2d", instance="a"'
    expression = target["expr"].replace('$job"', 'her2d"').replace('$instance"', 'a"')
    stage, value = shown_as
    series = [
        *(
            {"series": f'her2d_busy_ratio{{{of}, stage="{name}"}}', "values": str(ratio)}
            for name, ratio in busy.items()
        ),
        *(
            {
                "series": f'her2d_bottleneck{{{of}, stage="{name}"}}',
                "values": str(int(name == limits)),
            }
            for name in (*busy, "waiting for slides")
        ),
    ]
    labels = f'{{{of}, stage="{stage}"}}'
    if stage in busy:
        labels = f"her2d_busy_ratio{labels}"
    test = {
        "expr": expression,
        "eval_time": "0m",
        "exp_samples": [{"labels": labels, "value": value}],
    }
    path = tmp_path / "bottleneck.yml"
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": [test]}]
    path.write_text(yaml.safe_dump({"tests": tests}))
    found = tool("promtool", "test", "rules", str(path))
    assert found.returncode == 0, found.stdout + found.stderr


def test_panels_lie_side_by_side_below_the_titles_of_their_rows():
    taken = set()
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    assert panels()[0]["type"] == "row"
    for panel in panels():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_rows_show_what_an_operator_looks_for():
    rows = [panel["title"] for panel in panels("row")]
    assert rows[:3] == ["Now", "Intake", "Webhook, backup and database"]
    titles = {panel["title"] for panel in panels("stat")}
    assert {
        "Webhook backlog",
        "Age of the last backup",
        "Unfinished files",
        "Unreachable inboxes",
        "Intake",
        "Write-ahead log",
        "Postponed, 24 h",
        "Cancelled, 24 h",
        "Dropped HTTP clients, 24 h",
        "Dropped log lines, 24 h",
    } <= titles


# The stack


def test_the_images_are_of_one_version_each_and_no_password_is_in_a_file():
    services = read("compose.yml")["services"]
    assert set(services) == {"prometheus", "alertmanager", "grafana"}
    for service in services.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    text = "".join(path.read_text() for path in MONITORING.rglob("*.yml"))
    secrets = re.findall(r"(?im)^[^#\n]*(?:password|secret|token)\w*\s*[:=].*$", text)
    assert secrets == []


def test_every_service_listens_on_the_loopback_address_only_and_has_no_rights():
    services = read("compose.yml")["services"]
    for name, service in services.items():
        assert service["network_mode"] == "host", name
        assert "ports" not in service, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
    for name, port in (("prometheus", 9090), ("alertmanager", 9093)):
        assert f"--web.listen-address=127.0.0.1:{port}" in services[name]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_nobody_can_log_in_to_grafana_with_its_known_password():
    environment = read("compose.yml")["services"]["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_files_that_the_stack_mounts_exist_and_lie_where_the_programs_look():
    services = read("compose.yml")["services"]
    mounts = dict(
        volume.split(":")[1::-1]
        for service in services.values()
        for volume in service["volumes"]
        if volume.startswith("./")
    )
    for source in mounts.values():
        assert (MONITORING / source).exists(), source
    for path in read("prometheus.yml")["rule_files"]:
        assert mounts[path] == "./her2d.rules.yml"
    (provider,) = read("grafana/dashboards/her2d.yml")["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert provider["options"]["path"] == str(Path(home).parent)
    assert mounts[home] == "./grafana-dashboard.json"
    volumes = set(read("compose.yml")["volumes"])
    named = {
        volume.partition(":")[0]
        for service in services.values()
        for volume in service["volumes"]
        if not volume.startswith("./")
    }
    assert named == volumes


def test_grafana_has_the_prometheus_of_the_stack_as_its_source():
    (prometheus, alertmanager) = read("grafana/datasources/prometheus.yml")["datasources"]
    assert (prometheus["url"], prometheus["isDefault"]) == ("http://127.0.0.1:9090", True)
    targets = read("prometheus.yml")["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert [alertmanager["url"].removeprefix("http://")] == targets


def test_the_scrape_job_is_the_same_for_the_stack_and_for_ones_own_prometheus():
    (own,) = read("scrape.yml")["scrape_configs"]
    assert own in read("prometheus.yml")["scrape_configs"]


@needs_promtool
def test_the_configuration_of_prometheus_is_valid(tmp_path):
    config = tmp_path / "prometheus.yml"
    text = (MONITORING / "prometheus.yml").read_text()
    config.write_text(text.replace("/etc/prometheus/her2d.rules.yml", str(RULES)))
    found = tool("promtool", "check", "config", str(config))
    assert found.returncode == 0, found.stdout + found.stderr


@needs_alertmanager
def test_the_configuration_of_alertmanager_is_valid():
    found = tool("amtool", "check-config", "alertmanager.yml")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.skipif(
    shutil.which("docker-compose") is None,
    reason="docker-compose is not installed (Debian package docker-compose)",
)
def test_compose_accepts_its_file():
    found = tool("docker-compose", "-f", "compose.yml", "config", "--quiet")
    assert found.returncode == 0, found.stdout + found.stderr


@needs_alertmanager
def test_critical_alerts_are_sent_at_once_and_info_waits_for_working_hours():
    routes = read("alertmanager.yml")["route"]["routes"]
    by_severity = {route["matchers"][0]: route for route in routes}
    assert by_severity['severity="critical"']["group_wait"] == "10s"
    assert "active_time_intervals" not in by_severity['severity="critical"']
    assert by_severity['severity="info"']["active_time_intervals"] == ["working hours"]


@pytest.mark.slow
@needs_prometheus
@needs_alertmanager
def test_an_alert_goes_from_prometheus_through_alertmanager_to_the_mail_server(tmp_path):
    """Nothing answers on the daemon's port, so Her2dDown fires within a minute."""
    with stack(tmp_path, MONITORING) as running:
        mail = running.wait_for_mail()
    assert "To: root@localhost\n" in mail
    assert "Subject: her2d critical: her2d does not answer\n" in mail
    assert "If it is down, no scans are processed.\n" in mail
    assert re.search(r"\nWhat to do: https://\S+/runbook.html#her2ddown\n", mail)
    assert re.search(r"\nHer2dDown on 127\.0\.0\.1:\d+, since \d+ \w+, \d\d:\d\d UTC\n", mail)


@pytest.mark.slow
@needs_alertmanager
def test_the_test_alert_of_the_documentation_arrives(tmp_path):
    page = (ROOT / "docs" / "how-to" / "monitoring.md").read_text()
    (command,) = re.findall(
        r"^sudo docker compose exec alertmanager (amtool .*)$", page, re.MULTILINE
    )
    with stack(tmp_path, MONITORING) as running:
        at = running.alertmanager
        running.wait_until_ready()
        found = tool(*command.replace("http://127.0.0.1:9093", f"http://{at}").split())
        assert found.returncode == 0, found.stdout + found.stderr
        mail = running.wait_for_mail()
    assert "Subject: her2d critical: Her2dTest\n" in mail


@pytest.mark.slow
@needs_alertmanager
@pytest.mark.parametrize(
    ("cause", "follows"),
    [
        ("Her2dDown", "Her2dFallingBehind"),
        ("Her2dDatabaseUnreadable", "Her2dResultsUnwritable"),
        ("Her2dInboxUnreachable", "Her2dNotReady"),
        ("Her2dFailing", "Her2dQuarantined"),
    ],
)
def test_what_follows_from_another_alert_is_not_sent(tmp_path, cause, follows):
    names = {alert["alert"] for alert in alerts()}
    assert {cause, follows} <= names
    with stack(tmp_path, MONITORING) as running:
        running.wait_until_ready()
        for name, instance in ((cause, "a"), (follows, "a"), (follows, "b")):
            labels = (f"alertname={name}", f"instance={instance}", "job=her2d")
            url = f"--alertmanager.url=http://{running.alertmanager}"
            assert tool("amtool", url, "alert", "add", *labels).returncode == 0
        # Not that of another daemon, and not the cause itself.
        assert running.suppressed() == {(follows, "a")}
