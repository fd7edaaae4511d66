"""The FHIR export: its codes, and the transaction of the example slide."""

import json
from typing import Any

from her2d.results.export.fhir_codes import CODES
from tools.docs.example_site import ExampleSite
from tools.docs.markdown import block, code, introduction, page, table


def fhir_page(site: ExampleSite) -> str:
    """The page `reference/fhir.md`."""
    site.her2d("export", "slide.tif", "--format", "fhir", "-o", "slide.fhir.json")
    bundle = json.loads((site.folder / "slide.fhir.json").read_text())
    return page(
        "FHIR",
        introduction("fhir"),
        "## Codes",
        table(["code", "meaning"], ([code(name), meaning] for name, meaning in CODES.items())),
        "## Example",
        block(json.dumps(_shortened(bundle), indent=2, ensure_ascii=False), "json5"),
    )


def _shortened(bundle: dict[str, Any]) -> dict[str, Any]:
    """Leave out most of the picture, and all but the first components."""
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if "content" in resource:
            resource["content"]["data"] = resource["content"]["data"][:40] + "..."
        if "component" in resource:
            resource["component"] = [*resource["component"][:5], "..."]
    return bundle
