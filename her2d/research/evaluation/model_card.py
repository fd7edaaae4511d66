"""A model card in Markdown, every line of it from the manifest."""

from collections.abc import Iterator

from her2d.bundle.manifest import Manifest, Measured

CARD_FILE = "MODEL_CARD.md"


def model_card(manifest: Manifest) -> str:
    """What the bundle is, for what, made of what, from what, and how good it was found to be."""
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
        f"Tiles of {rules.tile} x {rules.tile} pixels at {rules.magnification:g}x; background up to"
        f" a saturation of {rules.saturation:g}; tumour tiles above"
        f" {100 * rules.tumor_fraction:g} % tumour; positive from"
        f" {100 * manifest.decision.threshold:g} %."
    )
    training = manifest.training
    yield ""
    yield "## Training"
    yield ""
    yield f"- cohort: {training.cohort}"
    yield f"- seed: {training.seed}"
    yield f"- her2d {training.code_version}: `{training.command}`"
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


def _measured(measured: Measured) -> Iterator[str]:
    yield f"- cohort: {measured.cohort}"
    yield f"- slides: {measured.slides}, {measured.slides_positive} of them HER2-positive"
    if measured.slides_without_tumor:
        yield f"- slides without tumour: {measured.slides_without_tumor}"
    predicted = measured.calls_without_tumor
    if measured.slides_without_tumor and predicted is not None:
        yield (
            f"- of these predicted positive: {predicted.positive}, negative: {predicted.negative},"
            f" without a call, which is right: {predicted.indeterminate}"
        )
    if measured.slides_without_call is not None:
        yield f"- slides without a call, left out of what follows: {measured.slides_without_call}"
    figures = (
        ("slide accuracy", measured.slide_accuracy),
        ("slide accuracy, low end of its 95 % interval (Wilson)", measured.slide_accuracy_ci_low),
        ("slide accuracy, high end", measured.slide_accuracy_ci_high),
        ("slide accuracy, no call taken for wrong", measured.slide_accuracy_of_all),
        ("slide sensitivity", measured.slide_sensitivity),
        ("slide specificity", measured.slide_specificity),
        ("slide AUROC", measured.slide_auroc),
        ("tile AUROC", measured.tile_auroc),
        ("segmenter MIoU", measured.segmenter_miou),
    )
    for name, value in figures:
        if value is not None:
            yield f"- {name}: {value:.4f}"
