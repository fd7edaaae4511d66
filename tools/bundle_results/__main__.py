"""`python -m tools.bundle_results`: write the page on the shipped bundle's results."""

from pathlib import Path
from typing import Annotated

import typer

from her2d.bundle.loading import load_bundle
from her2d.research.evaluation.report import Report
from tools.bundle_results.page import figure, page

_ROOT = Path(__file__).parents[2]
_PAGES = _ROOT / "docs" / "explanation"
_BUNDLE = _ROOT / "engines" / "her2net-demo"


def main(
    report: Annotated[
        Path, typer.Argument(help="The study's evaluation/report.json, or the one that is shown.")
    ] = _PAGES / "bundle" / "report.json",
    bundle: Annotated[Path, typer.Option(help="The bundle of that study.")] = _BUNDLE,
    folder: Annotated[
        Path, typer.Option(help="Folder for the page, its figure and data.")
    ] = _PAGES,
) -> None:
    """Write the page, its figure and a copy of the report they rest on."""
    text = report.read_text()
    found = Report.model_validate_json(text)
    data = folder / "bundle"
    data.mkdir(exist_ok=True)
    (data / "report.json").write_text(text)
    (data / "p-external.svg").write_text(figure(found))
    (folder / "demo-bundle.md").write_text(page(found, load_bundle(bundle).manifest.training))


if __name__ == "__main__":
    typer.run(main)
