"""Write a model card in Markdown from a bundle's manifest."""

from collections.abc import Iterator

from her2d.bundle.manifest import Interval, Manifest, Measured
from her2d.pipeline.interval import interval_meaning

CARD_FILE = "MODEL_CARD.md"


def model_card(manifest: Manifest) -> str:
    """Return the model card, with intended use, models, training data and metrics."""
    return "\n".join(_lines(manifest)) + "\n"


def _lines(manifest: Manifest) -> Iterator[str]:
    yield f"# {manifest.name} {manifest.version}"
    yield ""
    yield manifest.intended_use
    yield ""
    yield "## Models"
    yield ""
    for name, part in manifest.parts:
        yield f"- {name}: {part.architecture} (`{part.file}`, SHA-256 `{part.sha256}`)"
    rules = manifest.preprocessing
    yield ""
    yield (
        f"Tiles have {rules.tile} x {rules.tile} pixels at {rules.magnification:g}x. Tiles with a"
        f" mean saturation of at most {rules.saturation:g} are background. Tumour tiles are more"
        f" than {100 * rules.tumor_fraction:g} % tumour. {_call(manifest)}"
    )
    yield ""
    yield _evaluable(manifest)
    yield ""
    yield _interval(manifest)
    training = manifest.training
    yield ""
    yield "## Training"
    yield ""
    yield f"- cohort: {training.cohort}"
    yield f"- seed: {training.seed}"
    yield f"- her2d {training.code_version}: `{training.command}`"
    for environment in training.environments:
        on = [f"{environment.threads} threads", f"PyTorch {environment.torch}"]
        on += [f"CUDA {environment.cuda}"] if environment.cuda else []
        on += [f"commit {environment.commit}"] if environment.commit else []
        yield f"- on {environment.device}: {', '.join(on)}"
    if training.notes:
        yield f"- {training.notes}"
    for title, measured in (
        ("Measured", manifest.measured),
        ("Measured elsewhere", manifest.measured_external),
    ):
        if measured is not None:
            yield ""
            yield f"## {title}"
            yield ""
            yield from _measured(measured)


def _call(manifest: Manifest) -> str:
    mil, decision = manifest.mil, manifest.decision
    if mil is not None:
        return (
            f"Their features ({mil.encoder}) are weighed by attention, and a slide is positive from"
            f" a probability of {mil.threshold:.4g}, chosen on {mil.chosen_on}. A slide with more"
            f" than {mil.max_tiles} tumour tiles is not called."
        )
    return (
        f"They are strong above a probability of {decision.tile_cut:.4g}. A slide is positive from"
        f" {100 * decision.threshold:g} % of tumour tiles with high expression."
    )


def _evaluable(manifest: Manifest) -> str:
    decision, quality = manifest.decision, manifest.quality
    tiles = decision.min_tumor_tiles
    return (
        f"A slide is called if it has at least {tiles} tumour tile{'s' if tiles > 1 else ''} and"
        f" {decision.min_tumor_mm2:g} mm2 of tumour, and if at most"
        f" {quality.max_blurred_percent:g} % of its tissue is out of focus,"
        f" {quality.max_tissue_fold_percent:g} % is folded, and {quality.max_pen_percent:g} % of"
        " the slide is under ink."
    )


def _interval(manifest: Manifest) -> str:
    found = manifest.interval
    if manifest.mil is not None:
        return (
            "The method gives no share of HER2-high tumour, and its probability has no interval: no"
            " slide is marked as borderline."
        )
    if found is None:
        return f"The interval of P: {interval_meaning(calibrated=False)}"
    return (
        f"The interval of P, on {found.slides} slides of {found.patients} patients that no network"
        " learned from, each scored by an integrator that had not learned from its patient:"
        f" {interval_meaning(calibrated=True)}{_population(found)}"
    )


def _population(interval: Interval) -> str:
    if interval.prevalence is None:
        return ""
    return (
        f" That is for slides of which {100 * interval.prevalence:.3g} % are HER2-positive: where"
        " more are, more negative calls are wrong."
    )


def _measured(measured: Measured) -> Iterator[str]:
    yield f"- cohort: {measured.cohort}"
    yield f"- slides: {measured.slides}, {measured.slides_positive} of them HER2-positive"
    if measured.slides_without_tumor:
        yield f"- slides without tumour: {measured.slides_without_tumor}"
    calls = measured.calls_without_tumor
    if measured.slides_without_tumor and calls is not None:
        yield (
            f"- of these predicted positive: {calls.positive}, negative: {calls.negative},"
            f" indeterminate, which is correct: {calls.indeterminate}"
        )
    if measured.slides_without_call is not None:
        yield f"- indeterminate slides, excluded below: {measured.slides_without_call}"
    yield "- in brackets below: 95 % intervals, with patients as clusters but for the coverage"
    accuracy = _within(measured.slide_accuracy_ci_low, measured.slide_accuracy_ci_high)
    sensitivity = _within(measured.slide_sensitivity_ci_low, measured.slide_sensitivity_ci_high)
    specificity = _within(measured.slide_specificity_ci_low, measured.slide_specificity_ci_high)
    area = _within(measured.slide_auroc_ci_low, measured.slide_auroc_ci_high)
    coverage = _within(measured.interval_coverage_ci_low, measured.interval_coverage_ci_high)
    slides = f"slides whose interval of P holds the annotated share, of {measured.interval_slides}"
    metrics = (
        ("slide accuracy", measured.slide_accuracy, accuracy),
        ("slide accuracy, indeterminate counted as wrong", measured.slide_accuracy_of_all, ""),
        ("slide sensitivity", measured.slide_sensitivity, sensitivity),
        ("slide specificity", measured.slide_specificity, specificity),
        ("slide AUROC", measured.slide_auroc, area),
        (slides, measured.interval_coverage, coverage),
        ("tile AUROC", measured.tile_auroc, ""),
        ("segmenter MIoU", measured.segmenter_miou, ""),
    )
    for name, value, limits in metrics:
        if value is not None:
            yield f"- {name}: {value:.4f}{limits}"


def _within(low: float | None, high: float | None) -> str:
    """Return the limits of a 95 % interval in brackets; "" if they are not known."""
    return "" if low is None or high is None else f" ({low:.4f} to {high:.4f})"
