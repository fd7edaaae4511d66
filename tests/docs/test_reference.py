"""The reference that is rendered from the code leaves nothing out."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from documentation import PAGES, ROOT, prose_of

from her2d.bundle.manifest import Manifest
from her2d.bundle.site_calibration import SiteCalibration
from her2d.processing.retry_policy import RULES, Action
from her2d.queue.job import JobState
from her2d.results.export.fhir_codes import CODES
from her2d.settings import Settings
from her2d.webhook.payload import webhook_schema
from tools.docs import settings as settings_reference
from tools.docs.alerts import alerts, alerts_page
from tools.docs.commands import command_line_page, commands
from tools.docs.doctor import doctor_page
from tools.docs.doctor import problems as doctor_problems
from tools.docs.example_site import ExampleSite
from tools.docs.exit_codes import exit_codes_page
from tools.docs.fhir import fhir_page
from tools.docs.log_events import events, log_events_page
from tools.docs.manifest import calibration_page, manifest_page, recipe_page
from tools.docs.metrics import families, metrics_page
from tools.docs.outputs import json_output_page, webhook_page
from tools.docs.retries import retries_page
from tools.docs.schema import schema_page
from tools.docs.settings import live_keys, settings_page

_PACKAGE = ROOT / "her2d"


@cache
def sources() -> str:
    return "\n".join(path.read_text() for path in sorted(_PACKAGE.rglob("*.py")))


def test_every_command_has_its_section_with_every_option():
    page = command_line_page()
    for command in commands():
        section = page.partition(f" {command.name} {{ #")[2].partition("\n## ")[0]
        assert section, command.name
        missing = [
            name
            for parameter in command.click.params
            for name in (*parameter.opts, *parameter.secondary_opts)
            if name.startswith("-") and name != "--help" and f"`{name}`" not in section
        ]
        assert missing == [], command.name


def test_every_setting_is_listed_with_what_it_does_and_its_variable():
    page, notes = settings_page(), settings_reference.comments()
    for section, field in Settings.model_fields.items():
        for key in type(field.default).model_fields:
            assert f"| `{key}` |" in page.partition(f"{{ #{section} }}")[2]
            assert f"`HER2D_{section.upper()}__{key.upper()}`" in page
            assert len(notes[f"{section}.{key}"]) > 10, f"config.toml says nothing of {key}"


def test_a_key_that_only_a_restart_changes_is_not_called_live():
    live = live_keys()
    assert "intake.inboxes" in live
    assert live.isdisjoint({"results.database", "bundle.path", "ops.port"})
    (row,) = (line for line in settings_page().splitlines() if line.startswith("| `database`"))
    assert "next start" in row


def test_every_metric_in_the_source_is_listed_and_nothing_else():
    named = set(re.findall(r'"(her2d_[a-z_]+)"', (_PACKAGE / "monitoring/metrics.py").read_text()))
    listed = {re.sub(r"_(total|info)$", "", family.name) for family in families()}
    assert named == {name for name in listed if name.startswith("her2d_")}
    page = metrics_page()
    assert [family.name for family in families() if f"`{family.name}`" not in page] == []


def test_every_metric_says_what_it_is_and_which_labels_it_has():
    assert [family.name for family in families() if not family.help] == []
    labels = {family.name: family.labels for family in families()}
    assert labels["her2d_slide_results_total"] == ("her2_status",)
    assert labels["her2d_jobs"] == ("state",)
    assert labels["her2d_backlog_files"] == ()


def test_every_alert_is_listed():
    page = alerts_page()
    assert [alert["alert"] for alert in alerts() if f"## {alert['alert']}\n" not in page] == []


def test_every_log_event_in_the_source_is_listed():
    calls = re.findall(
        r'\blog\.(?:debug|info|warning|error|exception|critical)\(\s*"(\w+)"', sources()
    )
    assert len(calls) > 80
    assert set(calls) <= {event.name for event in events()}
    page = log_events_page()
    assert [event.name for event in events() if f"`{event.name}`" not in page] == []


def test_events_whose_names_are_in_a_variable_are_listed_as_well():
    assert len(re.findall(r"\blog\.log\(", sources())) == 1  # the retry policy's
    levels = {(event.name, event.level) for event in events()}
    assert {(rule.event, rule.level) for rule in RULES} <= levels
    assert ("device_lost", "critical") in levels


def test_every_log_event_of_a_failed_attempt_is_listed():
    listed = {(event.name, event.level) for event in events()}
    assert {(rule.event, rule.level) for rule in RULES} <= listed
    assert ("slide_quarantined", "error") in listed  # after the last attempt


def test_no_call_that_logs_is_left_out():
    calls = len(re.findall(r"\blog\.(?:debug|info|warning|error|exception|critical)\(", sources()))
    text = sources()
    listed = sum(len(re.findall(rf'"{name}"', text)) for name in {e.name for e in events()})
    assert listed >= calls  # an event that a variable names is found as well


def test_every_table_view_and_column_is_listed():
    sql = "\n".join(path.read_text() for path in sorted(_PACKAGE.rglob("migrations/*.sql")))
    page = schema_page()
    names = set(re.findall(r"create (?:table|view) (\w+)", sql))
    assert "slide_results" in names
    assert [name for name in names if f"### {name}\n" not in page] == []
    assert "level 0 pixels" in page  # comments of columns


def test_every_key_of_the_manifest_is_listed_and_the_shipped_one_shown():
    shipped = (ROOT / "engines/her2net-demo/manifest.toml").read_text()
    page = manifest_page(shipped)
    assert shipped.strip() in page
    assert [key for key in Manifest.model_fields if f"| `{key}` |" not in page] == []


def test_every_key_of_the_calibration_is_listed_and_a_real_one_shown(site: ExampleSite):
    page = calibration_page(site)
    assert 'signed_by = "Dr A. Li"' in page
    assert [key for key in SiteCalibration.model_fields if f"| `{key}` |" not in page] == []
    assert "| `from_percent` |" in page


def test_a_recipes_defaults_are_the_papers():
    page = recipe_page()
    assert "| `learning_rate` | number, > 0 | `1e-05` |" in page
    assert "`batch = 64`" in page


def test_the_exit_code_of_a_lost_gpu_is_listed():
    assert "\n| 75 | " in exit_codes_page()


def test_every_rule_for_errors_and_every_action_is_listed():
    page = retries_page()
    assert [rule.when for rule in RULES if f"| {rule.when} |" not in page] == []
    assert [action for action in Action if f"\n| `{action}` | " not in page] == []


def test_every_problem_that_doctor_names_is_listed_with_what_to_do():
    page, found = doctor_page(), doctor_problems()
    problems = [problem for of_module in found.values() for problem in of_module]
    assert len(problems) > 60
    assert [summary for summary in found if f"\n## {summary}\n" not in page] == []
    assert "| failure | This folder does not exist. | Create it, mount its share" in page
    assert "her2d.service is not installed, so her2d does not start with" in page
    assert [problem for problem in problems if not problem.remedy] == []


def test_every_state_of_a_job_is_explained():
    text = (ROOT / "docs/explanation/life-of-a-scan.md").read_text()
    assert [state.value for state in JobState if f"| `{state.value}` |" not in text] == []


def test_json_is_shown_for_every_command_that_prints_it(site: ExampleSite):
    page = json_output_page(site)
    shown = {line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")}
    with_json = [c.name for c in commands() if any("--json" in p.opts for p in c.click.params)]
    # They need a study, or minutes.
    rest = {"her2d evaluate", "her2d evaluate misdiagnosis", "her2d compile"}
    missing = [name for name in with_json if not any(line.startswith(name) for line in shown)]
    assert set(missing) == rest
    assert str(site.folder) not in page


def test_every_kind_of_webhook_event_is_shown_with_its_fields_and_the_schema(site: ExampleSite):
    page = webhook_page(site)
    kinds = set(re.findall(r'"(slide\.[a-z]+)"', (_PACKAGE / "webhook/outbox.py").read_text()))
    assert len(kinds) == 6
    assert [kind for kind in kinds if f"\n## {kind}\n" not in page] == []
    assert "| `will_retry` | `true` `false` | Whether it is tried again without a person. |" in page
    assert "| `former_file_name` | text | The name that the file had before. |" in page
    assert json.dumps(webhook_schema(), indent=2, ensure_ascii=False) in page
    assert '"barcode": "900444"' in page


def test_every_code_of_the_fhir_export_is_listed_and_a_real_one_shown(site: ExampleSite):
    page = fhir_page(site)
    assert [code for code in CODES if f"| `{code}` |" not in page] == []
    assert '"type": "transaction"' in page
    assert len(page) < 40_000  # the picture is cut


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "docs/adr").glob("0*.md")))
def test_files_that_a_decision_names_exist(name: str):
    text = (ROOT / "docs/adr" / name).read_text()
    files = re.findall(r"`((?:her2d|tools|systemd)/[\w/.-]+\.\w+)`", text)
    assert [file for file in files if not Path(ROOT, file).exists()] == []


@cache
def words() -> set[str]:
    """Every word of the code and of what ships with it, log events and columns among them."""
    kinds = {".py", ".sql", ".toml", ".yml"}
    folders = ("her2d", "tests", "systemd")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    text = "\n".join(path.read_text() for path in files if path.suffix in kinds)
    return set(re.findall(r"\w+", text + (ROOT / "config.toml").read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_with_underscores_are_those_of_the_code(page: Path):
    found = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", prose_of(page)))
    metrics = {family.name for family in families()}  # the source has them without _total
    assert sorted(found - words() - metrics) == []
