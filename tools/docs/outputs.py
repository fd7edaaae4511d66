"""Pages that show what her2d really prints and sends, from the example site."""

import json
from collections.abc import Mapping
from typing import Any

from her2d.webhook.payload import EVENTS, webhook_schema
from tools.docs.example_site import ExampleSite
from tools.docs.markdown import block, code, introduction, page, table
from tools.docs.models import allowed


def json_output_page(site: ExampleSite) -> str:
    """The page `reference/json-output.md`."""
    shown: list[tuple[str, Any]] = [
        ("her2d results --json", site.json("results")),
        ("her2d show slide.tif --json", site.json("show", "slide.tif")),
        ("her2d queue ls --json", site.json("queue", "ls")),
        ("her2d backfill archive-2025 --json", site.json("backfill", "archive-2025")),
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
    documents, schema = site.webhook_documents(), webhook_schema()
    sections = [
        _event(kind, documents[kind], schema["$defs"][event.__name__])
        for event in EVENTS
        for kind in [event.model_fields["type"].default]
    ]
    data = [_fields(name, schema) for name in ("FailureData", "DuplicateData", "RenamedResult")]
    return page(
        "Webhook",
        introduction("webhook"),
        *sections,
        "## Fields",
        *data,
        "## Schema",
        "`her2d webhook schema` prints the JSON Schema (2020-12) of all documents:",
        block(json.dumps(schema, indent=2, ensure_ascii=False), "json"),
    )


def _event(kind: str, document: Any, schema: Mapping[str, Any]) -> str:
    data = schema["properties"]["data"]["$ref"].rpartition("/")[2]
    fields = "[its columns](database.md#slide_results)" if data == "SlideResult" else ""
    fields = fields or f"[{data}](#{data.lower()})"
    text = f"{schema['description']} `data`: {fields}."
    return f"## {kind}\n\n{text}\n\n{block(_dumped(document), 'json')}"


def _fields(name: str, schema: Mapping[str, Any]) -> str:
    """Describe the fields of one kind of data, without those that every result has."""
    found = schema["$defs"][name]
    left_out = schema["$defs"]["SlideResult"]["properties"] if name == "RenamedResult" else {}
    rows = [
        [code(key), allowed(value), value.get("description", "")]
        for key, value in found["properties"].items()
        if key not in left_out
    ]
    text = found["description"]
    if left_out:
        text += " Beside these, it has [the columns of its result](database.md#slide_results)."
    return f"### {name}\n\n{text}\n\n{table(['field', 'value', ''], rows)}"


def _dumped(found: Any) -> str:
    if isinstance(found, list) and len(found) > 2:
        return json.dumps(found[:2], indent=2, ensure_ascii=False).removesuffix("]") + "  ...\n]"
    if isinstance(found, dict) and len(found.get("findings", [])) > 2:
        short = {**found, "findings": found["findings"][:2]}
        return json.dumps(short, indent=2, ensure_ascii=False)
    return json.dumps(found, indent=2, ensure_ascii=False)
