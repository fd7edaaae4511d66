"""`manifest.toml`: the parts of a bundle, its decision rules and its measured performance."""

from collections.abc import Iterable
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from her2d.bundle.status_weights import (
    StatusWeights,
    has_finite_quantile,
    patient_weights,
    status_weights,
)
from her2d.errors import Her2dError
from her2d.method import (
    COVERAGE,
    MAGNIFICATION,
    SATURATION,
    THRESHOLD,
    TILE_CUT,
    TILE_PX,
    TUMOR_FRACTION,
    UM_PER_PX,
    MethodName,
)
from her2d.system.toml import parse_toml

MANIFEST_FILE = "manifest.toml"
# The 4x levels of scanners have 2.4 to 2.6 um/px.
_MPP_TOLERANCE = 0.05

Call = Literal["positive", "negative"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class BundleError(Her2dError):
    """The bundle cannot be used; `str(error)` says in one sentence why."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Section):
    """One file of the bundle."""

    file: str
    sha256: Sha256
    architecture: str

    @field_validator("file")
    @classmethod
    def _stays_inside_the_bundle(cls, file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{file!r} must be a path inside the bundle")
        return file


class Parts(_Section):
    """The three models of HER2Net (paper, section 4)."""

    segmenter: Part
    classifiers: Part
    integrator: Part


class MilParts(_Section):
    """The three graphs of a bundle that calls a slide as a whole, by attention to its tiles.

    Attributes:
        segmenter: as HER2Net's; its tumour tiles are the ones that count.
        encoder: makes the features of a tile.
        attention: weighs the features of a slide's tiles, and makes a probability of them.
    """

    segmenter: Part
    encoder: Part
    attention: Part


def _method_of_parts(parts: Any) -> MethodName:
    """Return which method's parts a manifest lists; those of HER2Net unless it has an encoder."""
    is_mil = "encoder" in parts if isinstance(parts, dict) else isinstance(parts, MilParts)
    return MethodName.MIL if is_mil else MethodName.HER2NET


AnyParts = Annotated[
    Annotated[Parts, Tag(MethodName.HER2NET)] | Annotated[MilParts, Tag(MethodName.MIL)],
    Discriminator(_method_of_parts),
]


class Preprocessing(_Section):
    """How a scan is cut into tiles, and which tiles are used (paper, section 4.2)."""

    magnification: float = MAGNIFICATION
    mpp: float = UM_PER_PX
    tile: Literal[512] = TILE_PX
    saturation: Annotated[float, Field(ge=0, le=255)] = SATURATION
    tumor_fraction: Fraction = TUMOR_FRACTION

    @field_validator("magnification")
    @classmethod
    def _is_that_of_the_tiles(cls, magnification: float) -> float:
        if magnification != MAGNIFICATION:
            raise ValueError(
                f"this bundle needs tiles at {magnification:g}x, and her2d only reads tiles at"
                f" {MAGNIFICATION:g}x"
            )
        return magnification

    @field_validator("mpp")
    @classmethod
    def _is_about_that_of_the_tiles(cls, mpp: float) -> float:
        if not abs(mpp / UM_PER_PX - 1) <= _MPP_TOLERANCE:
            raise ValueError(
                f"this bundle needs tiles of {mpp:g} um/px, and her2d only reads tiles of about"
                f" {UM_PER_PX:g} um/px"
            )
        return mpp


class Normalization(_Section):
    """Per-channel RGB mean and standard deviation on the 0..1 scale; applied inside the graphs."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Decision(_Section):
    """How tiles and slides are called, and from how much tumour on.

    Attributes:
        threshold: share of tumour pixels in strong tiles from which a slide is HER2-positive.
        tile_cut: the integrator's probability above which a tile is strong. It is chosen on
            held-out slides so that P is not biased; a bundle that does not state it calls the more
            probable class.
        min_tumor_tiles: number of tumour tiles from which a slide is called.
        min_tumor_mm2: area of tumour in tumour tiles from which a slide is called. Both are
            measured on held-out slides; a bundle that does not state them calls slides of one tile.
    """

    threshold: Fraction = THRESHOLD
    tile_cut: Fraction = TILE_CUT
    min_tumor_tiles: Annotated[int, Field(ge=1)] = 1
    min_tumor_mm2: NotNegative = 0.0


class Quality(_Section):
    """From where on a slide is flagged for its quality, and from where on it is not called.

    Pixels under a pen, in a tissue fold or in a blurred block are left out of P on every slide.

    Attributes:
        focus: variance of the Laplacian, of 8-bit grey at 4x, under which a block of 64 x 64 pixels
            of tissue is blurred.
        blurred_percent: share of blurred tissue above which a slide is flagged `blurred`.
        tissue_fold_percent: share of folded tissue above which it is flagged `folded`.
        pen_percent: share of the slide under ink above which it is flagged `pen-marked`.
        stain_deviations: standard deviations from `[stain]` above which it is a `stain-outlier`.
        max_blurred_percent: share of blurred tissue above which a slide is not called. P of the
            sharp half of a slide leads to another call than P of all in 3 of 100 simulated slides.
        max_tissue_fold_percent: share of folded tissue above which it is not called. A fold across
            a tile covers up to a tenth of it: with more, hardly a tile is without one.
        max_pen_percent: share of the slide under ink above which it is not called. A ring around
            the tissue covers about 15 %, and does no harm on bare glass.
    """

    focus: NotNegative = 100.0
    blurred_percent: Percent = 4.0
    tissue_fold_percent: Percent = 0.4
    pen_percent: Percent = 0.1
    stain_deviations: NotNegative = 3.0
    max_blurred_percent: Percent = 50.0
    max_tissue_fold_percent: Percent = 10.0
    max_pen_percent: Percent = 25.0


class Tolerance(_Section):
    """How much a compiled plan may differ from ONNX Runtime in fp32 on the same tiles.

    Attributes:
        mask_agreement: smallest share of pixels with the same class.
        max_dp: largest difference of any fold's p(strong).
        changed_tiles: largest share of tiles whose class differs.
        change_in_p: largest change of P, percentage points.
    """

    mask_agreement: Fraction = 0.99
    max_dp: Fraction = 0.05
    changed_tiles: Fraction = 0.02
    change_in_p: Annotated[float, Field(ge=0, le=100)] = 0.5


class Spread(_Section):
    """Mean and standard deviation of one measure over slides."""

    mean: float
    std: Annotated[float, Field(gt=0)]


StainVector = tuple[NotNegative, NotNegative, NotNegative]


class HeStain(_Section):
    """What counts as stained with haematoxylin and eosin: all other slides get no call.

    The defaults are the method's, for a bundle that does not state its own. Those that
    `her2d train` writes are never stricter.

    Attributes:
        hematoxylin, eosin: stain vectors, the optical density in R, G and B, of any length.
        degrees: largest angle between a slide's vector and its reference.
        red_to_green: largest ratio of red to green in the haematoxylin vector; a blue dye's is
            higher.
        pink_percent: least pink share of the stained tissue.
        foreign_percent: largest share of the stained tissue in colours that the two dyes cannot
            mix.
        stained_mm2: area of stained tissue from which the stain can be told.
    """

    hematoxylin: StainVector = (0.563, 0.720, 0.406)  # Macenko et al. 2009
    eosin: StainVector = (0.216, 0.801, 0.558)
    degrees: Annotated[float, Field(ge=0, le=180)] = 30.0
    red_to_green: NotNegative = 1.05
    pink_percent: Percent = 20.0
    foreign_percent: Percent = 40.0
    stained_mm2: NotNegative = 0.05

    @field_validator("hematoxylin", "eosin")
    @classmethod
    def _absorbs_light(cls, vector: StainVector) -> StainVector:
        if not any(vector):
            raise ValueError("a dye must absorb some colour")
        return vector


class Stain(_Section):
    """Mean and spread, over the training slides, of the tissue's optical density in R, G and B.

    Attributes:
        saturation: mean and spread of the tissue's mean HSV saturation, 0..255.
        he: what counts as stained with haematoxylin and eosin.
    """

    mean: tuple[float, float, float]
    std: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ]
    saturation: Spread | None = None
    he: HeStain = HeStain()


class IntervalScale(_Section):
    """How wide a slide's interval is, relative to others': base plus weighted evidence of doubt.

    Attributes:
        base: the same for every slide.
        few_tiles: weight of 1 / sqrt(tumour tiles).
        disagreement: weight of the standard deviation of the five folds, mean over tumour.
        near_cut: weight of the share of tumour in tiles nearer to the tile cut than to 0 or 1.
    """

    base: Annotated[float, Field(gt=0)]
    few_tiles: NotNegative = 0.0
    disagreement: NotNegative = 0.0
    near_cut: NotNegative = 0.0


class Interval(_Section):
    """Split-conformal calibration of the interval of P, on slides that no network learned from.

    The integrator is fitted on these slides; each is scored by one that did not learn from its
    patient.

    A residual is the difference between P and the annotated share of HER2-high tumour, each as
    arcsin of its square root, divided by the slide's scale. A bundle without this section has
    intervals that are not calibrated.

    Attributes:
        coverage: share of slides whose interval is to hold the annotated share.
        slides, patients: number of those that the residuals are of.
        residuals: absolute residual of each slide.
        patient: number of each slide's patient, from 0; all patients weigh the same.
        call: each slide's call, `positive` or `negative`: a new slide's interval rests on those
            that are called as it is, if they are enough. Without it, on all.
        positive: whether each slide's true HER2 status is positive; only with a prevalence.
        prevalence: share of HER2-positive slides among those that the coverage is for. Without it,
            the share that the slides have.
    """

    coverage: float = COVERAGE
    slides: Annotated[int, Field(ge=1)]
    patients: Annotated[int, Field(ge=1)]
    residuals: tuple[NotNegative, ...]
    patient: tuple[Annotated[int, Field(ge=0)], ...]
    call: tuple[Call, ...] = ()
    positive: tuple[bool, ...] = ()
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    scale: IntervalScale

    @field_validator("coverage")
    @classmethod
    def _is_the_one_that_is_shown(cls, coverage: float) -> float:
        if coverage != COVERAGE:
            raise ValueError(
                f"this bundle wants intervals of {100 * coverage:g} %, and her2d shows those of"
                f" {100 * COVERAGE:g} % only"
            )
        return coverage

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if not len(self.residuals) == len(self.patient) == self.slides:
            raise ValueError("slides, residuals and patient must be of equally many slides")
        if self.call and len(self.call) != self.slides:
            raise ValueError("call must be of each slide, or left out")
        if len(set(self.patient)) != self.patients:
            raise ValueError("patients and patient must be of equally many patients")
        if (self.prevalence is None) == bool(self.positive):
            raise ValueError("positive and prevalence belong together")
        if self.positive and len(self.positive) != self.slides:
            raise ValueError("positive must be of each slide, or left out")
        if not self.has_quantile([True] * self.slides):
            raise ValueError(f"{self.patients} patients are too few for {self.coverage:g} coverage")
        return self

    @property
    def weights(self) -> StatusWeights:
        """Weight of a slide by its true status."""
        if self.prevalence is None:
            return StatusWeights()
        return status_weights(self.positive, self.patient, self.prevalence)

    def weights_of(self, alike: Iterable[bool]) -> list[float]:
        """Return the weight of each of the chosen slides; the patients among them weigh the same.

        Args:
            alike: whether each slide is chosen.
        """
        chosen = list(alike)
        patient = list(compress(self.patient, chosen))
        return patient_weights(patient, list(compress(self.positive, chosen)), self.weights)

    def has_quantile(self, alike: Iterable[bool]) -> bool:
        """Return whether the chosen slides are enough for a quantile with that coverage."""
        return has_finite_quantile(sum(self.weights_of(alike)), self.weights.largest, self.coverage)


class Environment(_Section):
    """What a network was trained on.

    Attributes:
        threads: CPU threads of a process.
        device: the GPU, or the CPU with its vector instructions.
        torch: version of PyTorch.
        cuda: version of CUDA; None on a CPU.
        commit: git commit of her2d, None where it was installed from a package; `-dirty` if files
            differed from it.
    """

    threads: Annotated[int, Field(ge=1)]
    device: str
    torch: str
    cuda: str | None = None
    commit: str | None = None


class Training(_Section):
    """How the models were trained.

    Attributes:
        environments: what the networks were trained on, each once. The same study, recipe and seed
            give the same bundle digest in the same environment.
    """

    cohort: str
    seed: int
    code_version: str
    command: str
    notes: str = ""
    environments: tuple[Environment, ...] = ()


class EncoderInput(_Section):
    """What an encoder takes: her2d makes it of raw tiles before the graph runs.

    Attributes:
        layout: order of the axes: batch, channels, rows, columns, or batch, rows, columns,
            channels.
        dtype: `uint8` for values of 0 to 255; otherwise values of 0 to 1, then mean and std.
        rows, columns: size of the picture. Tiles of 512 x 512 pixels are resized where it differs.
        mean, std: of red, green and blue, subtracted and divided by.
        batch: 1 if the graph takes one tile at a time; without it any number.
    """

    layout: Literal["NCHW", "NHWC"] = "NHWC"
    dtype: Literal["uint8", "float32", "float16"] = "uint8"
    rows: Annotated[int, Field(ge=1, le=4096)] = TILE_PX
    columns: Annotated[int, Field(ge=1, le=4096)] = TILE_PX
    mean: tuple[Finite, Finite, Finite] = (0.0, 0.0, 0.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    batch: Literal[1] | None = None

    @model_validator(mode="after")
    def _normalises_floats_only(self) -> Self:
        if self.dtype == "uint8" and (any(self.mean) or self.std != (1.0, 1.0, 1.0)):
            raise ValueError("mean and std are for a float input, and the encoder takes uint8")
        return self


class ReferenceBag(_Section):
    """What the graphs make of tiles that her2d draws itself, when the bundle was built.

    It is computed again at every start, and an engine that finds something else is not used.

    Attributes:
        p_positive: the probability.
        attention: the weight of each tile.
        tolerance: the largest difference of any of these numbers.
    """

    p_positive: Fraction
    attention: tuple[Fraction, ...]
    tolerance: Annotated[float, Field(gt=0, le=0.05)] = 0.001


class Mil(_Section):
    """How a slide is called as a whole, by attention to its tumour tiles.

    Attributes:
        threshold: probability from which a slide is HER2-positive.
        chosen_on: the slides that the threshold was chosen on.
        encoder: what makes the features, for people.
        sets: feature sets of a tile: one for all networks, or one for each of five.
        channels: numbers in a set.
        max_tiles: tumour tiles of a slide whose features are held, as half-precision numbers. A
            slide with more is not called.
        input: what the encoder takes.
        reference: what the graphs must find at every start.
    """

    threshold: Fraction
    chosen_on: str
    encoder: str
    sets: Literal[1, 5]
    channels: Annotated[int, Field(ge=1, le=1 << 16)]
    max_tiles: Annotated[int, Field(ge=1, le=100_000)] = 4096
    input: EncoderInput = EncoderInput()
    reference: ReferenceBag


class CallCounts(_Section):
    """Numbers of slides by their predicted status."""

    positive: Annotated[int, Field(ge=0)]
    negative: Annotated[int, Field(ge=0)]
    indeterminate: Annotated[int, Field(ge=0)]


class Measured(_Section):
    """Performance on held-out slides, and the slides that it was measured on."""

    cohort: str
    slides: Annotated[int, Field(ge=0)]
    slides_positive: Annotated[int, Field(ge=0)]
    slides_without_tumor: Annotated[int, Field(ge=0)] = 0
    calls_without_tumor: CallCounts | None = None
    """Predicted statuses of the slides without tumour, whose correct status is indeterminate. The
    figures of slides, such as `slide_accuracy`, do not include these slides."""
    slides_without_call: Annotated[int, Field(ge=0)] | None = None
    """Slides with a HER2 status that were predicted indeterminate. The figures of slides, such as
    `slide_accuracy`, do not include them."""
    segmenter_miou: Fraction
    tile_auroc: Fraction | None = None
    """Of the integrator; a bundle that calls slides as a whole classifies no tiles."""
    slide_accuracy: Fraction
    slide_accuracy_ci_low: Fraction | None = None
    slide_accuracy_ci_high: Fraction | None = None
    slide_sensitivity: Fraction | None = None
    slide_sensitivity_ci_low: Fraction | None = None
    slide_sensitivity_ci_high: Fraction | None = None
    slide_specificity: Fraction | None = None
    slide_specificity_ci_low: Fraction | None = None
    slide_specificity_ci_high: Fraction | None = None
    slide_auroc: Fraction | None = None
    slide_auroc_ci_low: Fraction | None = None
    slide_auroc_ci_high: Fraction | None = None
    slide_accuracy_of_all: Fraction | None = None
    """Accuracy if slides that were predicted indeterminate count as wrong."""
    interval_slides: Annotated[int, Field(ge=0)] | None = None
    """Slides with a call and a known annotated share, on which the interval of P was measured."""
    interval_coverage: Fraction | None = None
    """Share of them whose interval of P holds the annotated share by area."""
    interval_coverage_ci_low: Fraction | None = None
    interval_coverage_ci_high: Fraction | None = None


class Manifest(_Section):
    """The whole of `manifest.toml`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: str
    intended_use: str
    preprocessing: Preprocessing = Preprocessing()
    decision: Decision = Decision()
    quality: Quality = Quality()
    normalization: Normalization
    tolerance: Tolerance = Tolerance()
    parts: AnyParts
    mil: Mil | None = None
    training: Training
    measured: Measured | None = None
    measured_external: Measured | None = None
    stain: Stain | None = None
    interval: Interval | None = None

    @model_validator(mode="after")
    def _is_of_one_method(self) -> Self:
        is_mil = isinstance(self.parts, MilParts)
        if is_mil and self.mil is None:
            raise ValueError("a bundle with an encoder needs the section mil")
        if not is_mil and self.mil is not None:
            raise ValueError("the section mil needs the parts segmenter, encoder and attention")
        if is_mil and self.interval is not None:
            raise ValueError("interval is of a share of tumour, and a bundle with mil has none")
        if is_mil and (self.decision.threshold, self.decision.tile_cut) != (THRESHOLD, TILE_CUT):
            raise ValueError(
                "decision.threshold and decision.tile_cut are HER2Net's; a bundle with mil has"
                " mil.threshold"
            )
        return self

    @property
    def method(self) -> MethodName:
        """How the bundle calls a slide."""
        return MethodName.MIL if self.mil is not None else MethodName.HER2NET


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """Return the manifest in `text`, which was read from `path`. Raises BundleError."""
    try:
        return Manifest.model_validate(parse_toml(text))
    except ValidationError as error:
        first = error.errors()[0]
        steps = first["loc"]
        if steps[:1] == ("parts",) and steps[1:2] and steps[1] in set(MethodName):
            steps = (steps[0], *steps[2:])  # pydantic's name for which parts these are
        where = ".".join(map(str, steps))
        message = first["msg"].removeprefix("Value error, ")
        at = f"{path}: {where}" if where else f"{path}"
        raise BundleError(f"{at}: {message}.") from error
    except ValueError as error:
        raise BundleError(f"{path} is not TOML: {error}.") from error
