"""Export a slide's report: one HTML file with picture, numbers and provenance.

It needs no network and prints on one sheet of A4.
"""

import base64
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from her2d.method import MethodName
from her2d.results.records import SlideResult
from her2d.results.stored_run import StoredRun
from her2d.slides.metadata import MagnificationSource
from her2d.system.clock import local_time

Row = tuple[str, str]

_SHOWN = {
    MethodName.HER2NET: "its HER2-high tumour",
    MethodName.MIL: "the tumour with most attention",
}
_SOURCES = {
    MethodName.HER2NET: "HER2Net: Liao et al., Advanced Science 2025, 10.1002/advs.202408451.",
    MethodName.MIL: "Attention over the whole slide: Ilse et al. 2018, arXiv:1802.04712.",
}


def report_html(run: StoredRun) -> str:
    """Render the report of a run; a missing heatmap is replaced by a sentence."""
    text = resources.files("her2d.results.export").joinpath("report.html").read_text()
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(text)
    result = run.result
    return template.render(
        result=result,
        picture=_picture(result),
        findings=_findings(run),
        quality=quality_rows(result),
        provenance=_provenance(run),
        shown=_SHOWN[result.method],
        source=_SOURCES[result.method],
    )


def quality_rows(result: SlideResult) -> list[Row]:
    """Describe quality control as rows of label and value."""
    return [
        ("suspicions", ", ".join(result.quality_flags) or "none"),
        ("tissue", f"{result.tissue_mm2:.1f} mm²"),
        ("tumour", f"{result.tumor_mm2:.1f} mm²"),
        ("focus (Laplacian)", _number(result.focus, "")),
        ("out of focus", _number(result.blurred_percent, " % of tissue")),
        ("fold suspicion", _number(result.tissue_fold_percent, " % of tissue")),
        ("pen marks", _number(result.pen_percent, " % of slide")),
        ("tumour in artefacts", _number(result.artefact_tumor_percent, " %, not counted")),
        ("stain", _stain(result.stain_distance)),
        ("pink, as eosin", _number(result.pink_percent, " % of stained tissue")),
        ("brown, as DAB", _number(result.brown_percent, " % of stained tissue")),
        ("colours foreign to H&E", _number(result.foreign_percent, " % of stained tissue")),
    ]


def _stain(distance: float | None) -> str:
    return "no reference" if distance is None else f"{distance:.1f} SD from the reference"


def _barcode(result: SlideResult) -> str:
    if result.barcode is None:
        return "none"
    if result.barcode_remark:
        return f"{result.barcode}. {result.barcode_remark}"
    return result.barcode + (" (from the label)" if result.barcode_source == "label" else "")


def _assumed(result: SlideResult) -> str:
    return " (assumed)" if result.magnification_source == MagnificationSource.ASSUMED else ""


def _scale(result: SlideResult) -> str:
    scale = f"{result.um_per_px:.4g} um/px at 4x"
    if result.mpp is None:
        scale += ", by the magnification only"
    return f"{scale}. {result.scale_remark}" if result.scale_remark else scale


def _her2d(result: SlideResult) -> str:
    commit = result.git_commit
    return result.software_version if commit is None else f"{result.software_version}, {commit}"


def _number(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.1f}{unit}"


def _picture(result: SlideResult) -> str | None:
    if result.heatmap_path is None or not Path(result.heatmap_path).is_file():
        return None
    return base64.b64encode(Path(result.heatmap_path).read_bytes()).decode()


def _findings(run: StoredRun) -> list[Row]:
    result = run.result
    is_mil = result.method is MethodName.MIL
    because = [("because", result.unreadable_reason)] if result.unreadable_reason else []
    return [
        ("tumour pixels at 4x", f"{result.tumor_pixels:,}"),
        ("of these in HER2-high tiles", _of_strong(result.strong_pixels)),
        ("tiles", str(result.tiles_total)),
        ("tissue tiles", str(result.tiles_tissue)),
        ("tumour tiles", str(result.tiles_tumor)),
        ("HER2-high tiles", _of_strong(result.tiles_strong)),
        *([] if is_mil else [("tiles decided early", _decided_early(result))]),
        ("unreadable tiles", str(result.tiles_unreadable)),
        *because,
        *([("IHC and FISH", result.outcome_text)] if result.outcome_text else []),
    ]


def _of_strong(number: int | None) -> str:
    """Return a number of strong tiles or pixels, or that the method has none."""
    return "not known: tiles are weighed, not classified" if number is None else f"{number:,}"


def _decided_early(result: SlideResult) -> str:
    """Return for how many tumour tiles the class was certain before all sub-classifiers ran."""
    if result.tiles_decided_early is None:
        return "none: all sub-classifiers were run"
    return f"{result.tiles_decided_early}: not all of their probabilities were computed"


def _provenance(run: StoredRun) -> list[Row]:
    result, geometry = run.result, run.geometry
    return [
        ("barcode", _barcode(result)),
        ("content", result.content_hash),
        ("file", result.path),
        ("size", f"{geometry.width} x {geometry.height} px"),
        ("magnification", f"{geometry.magnification:g}x{_assumed(result)}"),
        ("scale", _scale(result)),
        ("focal plane", result.focal_plane or "the only one"),
        ("not read", result.unread_pictures or "nothing"),
        ("decoding", result.decoding or "every pixel"),
        ("finished", local_time(result.finished_at, seconds=True)),
        ("seconds", f"{result.elapsed_s:.1f}"),
        ("models", f"{result.bundle_name} {result.bundle_version}, {result.bundle_digest[:12]}"),
        *([] if result.tile_cut is None else [("tile cut", f"{result.tile_cut:g}")]),
        ("calibration", result.calibration or "none"),
        ("networks", f"{result.runtime} {result.runtime_version}, {result.precision}"),
        *(
            [("integrator", f"scikit-learn {result.scikit_learn_version}")]
            if result.method is MethodName.HER2NET
            else []
        ),
        ("her2d", _her2d(result)),
        ("run", str(result.run_id)),
    ]
