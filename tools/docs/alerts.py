"""The alerts that ship, from Prometheus' rules."""

from pathlib import Path
from typing import Any

import yaml

from tools.docs.markdown import block, code, introduction, page

RULES = Path("systemd/monitoring/her2d.rules.yml")


def alerts() -> list[dict[str, Any]]:
    """The rules, in the file's order."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts_page() -> str:
    """The page `reference/alerts.md`."""
    return page("Alerts", introduction("alerts"), *map(_section, alerts()))


def _section(rule: dict[str, Any]) -> str:
    name, notes = rule["alert"], rule["annotations"]
    held = f", after {rule['for']}" if "for" in rule else ""
    return "\n\n".join(
        [
            f"## {name}",
            f"{notes['summary'].capitalize()}. Severity {code(rule['labels']['severity'])}{held}."
            f" [What to do](../runbook.md#{name.lower()})",
            block(rule["expr"].strip(), "promql"),
        ]
    )
