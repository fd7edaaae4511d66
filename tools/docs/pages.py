"""Which page is rendered by what."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tools.docs.alerts import alerts_page
from tools.docs.commands import command_line_page
from tools.docs.doctor import doctor_page
from tools.docs.example_site import ExampleSite
from tools.docs.exit_codes import exit_codes_page
from tools.docs.fhir import fhir_page
from tools.docs.log_events import log_events_page
from tools.docs.manifest import calibration_page, manifest_page, recipe_page
from tools.docs.markdown import GENERATED
from tools.docs.metrics import metrics_page
from tools.docs.outputs import json_output_page, webhook_page
from tools.docs.retries import retries_page
from tools.docs.schema import schema_page
from tools.docs.settings import settings_page


def _copied(name: str) -> str:
    """A page of the repository's top, with its links as the site has them."""
    text = Path(name).read_text().replace("](docs/", "](../")
    return f"{GENERATED}\n\n{text}"


FROM_CODE: Mapping[str, Callable[[], str]] = {
    "changelog.md": lambda: _copied("CHANGELOG.md"),
    "contributing/architecture.md": lambda: _copied("ARCHITECTURE.md"),
    "reference/alerts.md": alerts_page,
    "reference/command-line.md": command_line_page,
    "reference/database.md": schema_page,
    "reference/doctor.md": doctor_page,
    "reference/exit-codes.md": exit_codes_page,
    "reference/log-events.md": log_events_page,
    "reference/manifest.md": lambda: manifest_page(
        Path("engines/her2net-demo/manifest.toml").read_text()
    ),
    "reference/metrics.md": metrics_page,
    "reference/recipe.md": recipe_page,
    "reference/retries.md": retries_page,
    "reference/settings.md": settings_page,
}
FROM_A_RUN: Mapping[str, Callable[[ExampleSite], str]] = {
    "reference/calibration.md": calibration_page,
    "reference/fhir.md": fhir_page,
    "reference/json-output.md": json_output_page,
    "reference/webhook.md": webhook_page,
}
