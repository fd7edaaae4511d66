"""Pages that show what her2d really prints and sends, from the example site."""

import json
from typing import Any

from tools.docs.example_site import ExampleSite
from tools.docs.markdown import block, introduction, page


def json_output_page(site: ExampleSite) -> str:
    """The page `reference/json-output.md`."""
    shown: list[tuple[str, Any]] = [
        ("her2d results --json", site.json("results")),
        ("her2d show slide.tif --json", site.json("show", "slide.tif")),
        ("her2d queue ls --json", site.json("queue", "ls")),
        (
            "her2d scan slide.tif broken.tif --json",
            site.json("scan", "slide.tif", "broken.tif", fails=True),
        ),
        (
            "her2d compare her2net-demo her2net-other --json",
            site.json("compare", "her2net-demo", "her2net-other"),
        ),
        ("her2d db history --json", site.json("db", "history")),
        ("her2d outcomes ls --json", site.json("outcomes", "ls")),
        (
            "her2d calibrate --sensitivity 0.5 --json",
            site.json("calibrate", "--sensitivity", "0.5"),
        ),
        ("her2d bundle info --json", site.json("bundle", "info")),
        ("her2d config show --json", site.json("config", "show")),
        ("her2d doctor --json", site.json("doctor", fails=None)),
    ]
    parts = [f"## {command}\n\n{block(_dumped(found), 'json5')}" for command, found in shown]
    return page("JSON output", introduction("json-output"), *parts)


def webhook_page(site: ExampleSite) -> str:
    """The page `reference/webhook.md`."""
    documents = site.webhook_documents()
    parts = [f"## {kind}\n\n{block(_dumped(body), 'json')}" for kind, body in documents.items()]
    return page("Webhook", introduction("webhook"), *parts)


def _dumped(found: Any) -> str:
    if isinstance(found, list) and len(found) > 2:
        return json.dumps(found[:2], indent=2, ensure_ascii=False).removesuffix("]") + "  ...\n]"
    if isinstance(found, dict) and len(found.get("findings", [])) > 2:
        short = {**found, "findings": found["findings"][:2]}
        return json.dumps(short, indent=2, ensure_ascii=False)
    return json.dumps(found, indent=2, ensure_ascii=False)
