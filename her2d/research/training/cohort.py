"""Read and check a hospital's cohort table; HER2 status follows from the paper's rule.

The CSV has the columns slide, patient, he_path, ihc_score, fish and split, and optionally ihc_path,
annotation_path and her2_status, which is checked against the rule. All other columns are morphology
and are used unchanged in the misdiagnosis analysis. Paths are relative to the table's folder.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from her2d.errors import Her2dError
from her2d.system.csv_table import SURPLUS, TableError, TableRow, read_table
from her2d.system.numerals import read_number

Text = Annotated[str, Field(min_length=1)]
_NOT_MORPHOLOGY = frozenset({"her2_status"})
_PLACE = "{slide}"
_LONGEST_NAME = 200
"""Characters of a slide's name, which names folders."""
_OLDEST = 130


class CohortError(Her2dError):
    """The cohort table cannot be used; `str(error)` names every wrong row."""


class Status(StrEnum):
    """True HER2 status of a slide; INDETERMINATE is tissue without tumour, as in the results."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"


class Split(StrEnum):
    """The use of a slide.

    `train` slides are divided into the five folds. `integrator` slides are kept out of the folds to
    fit the integrator on. `test` is the paper's internal test set and `external` its multi-centre
    test set.
    """

    TRAIN = "train"
    INTEGRATOR = "integrator"
    TEST = "test"
    EXTERNAL = "external"


class CohortSlide(BaseModel):
    """One slide of a checked cohort; paths are absolute."""

    model_config = ConfigDict(frozen=True)

    name: str
    patient: str
    he_path: Path
    ihc_path: Path | None
    annotation_path: Path
    her2_status: Status
    split: Split
    morphology: dict[str, str]
    ihc_score: str = ""
    """0, 1+, 2+ or 3+; empty if IHC was not done."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="allow", str_strip_whitespace=True)

    slide: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", max_length=_LONGEST_NAME)]
    patient: Text
    he_path: Text
    ihc_path: str = ""
    annotation_path: str = ""
    ihc_score: Literal["", "0", "1+", "2+", "3+"]
    fish: Literal["", "positive", "negative"]
    her2_status: Literal["", "positive", "negative", "indeterminate"] = ""
    split: Split

    @model_validator(mode="after")
    def _agrees_with_the_rule(self) -> "_Row":
        found = self.status
        if self.her2_status and self.her2_status != found:
            raise ValueError(
                f"her2_status is {self.her2_status}, but IHC {self.ihc_score or 'not done'} and"
                f" FISH {self.fish or 'not done'} give {found}"
            )
        return self

    @model_validator(mode="after")
    def _has_an_age_that_people_reach(self) -> "_Row":
        for name, text in (self.model_extra or {}).items():
            if name.lower() == "age" and not _may_be_age(text):
                raise ValueError(
                    f"{name} must be years from 0 to {_OLDEST}, or empty (found {text!r})"
                )
        return self

    @property
    def status(self) -> Status:
        """HER2 status by the rule, or INDETERMINATE if her2_status says so and IHC was not done."""
        if not self.ihc_score and not self.fish and self.her2_status == "indeterminate":
            return Status.INDETERMINATE
        return her2_status(self.ihc_score, self.fish)


_REQUIRED = [name for name, field in _Row.model_fields.items() if field.is_required()]


def her2_status(ihc_score: str, fish: str) -> Status:
    """Derive HER2 status; IHC 3+, or IHC 2+ with positive FISH, is positive (section 4.1).

    Args:
        ihc_score: 0, 1+, 2+ or 3+.
        fish: positive, negative, or empty if FISH or another ISH was not done.

    Raises:
        ValueError: IHC is 2+ without FISH, which is equivocal, or the IHC score is missing.
    """
    match ihc_score, fish:
        case ("3+", _) | ("2+", "positive"):
            return Status.POSITIVE
        case ("0" | "1+", _) | ("2+", "negative"):
            return Status.NEGATIVE
        case "2+", _:
            raise ValueError("IHC 2+ without FISH is equivocal; add FISH or remove the slide")
    raise ValueError("the IHC score is missing, so the HER2 status is not known")


def read_cohort(path: Path, *, annotations: str | None = None) -> list[CohortSlide]:
    """Read and check a cohort table.

    Args:
        path: The CSV file, see `read_table`.
        annotations: Pattern of the annotations' paths for rows without an annotation_path,
            relative to the table's folder, such as `annotations/{slide}.geojson`.

    Raises:
        CohortError: The table is wrong; the message has a line for each wrong row. Or the pattern
            names the same file for all slides.
    """
    if annotations is not None and _PLACE not in annotations:
        raise CohortError(
            f"The pattern of the annotations, {annotations!r}, must hold {_PLACE} in place of a"
            " slide's name."
        )
    try:
        rows = read_table(path, known=_Row.model_fields, required=_REQUIRED).rows
    except TableError as error:
        raise CohortError(str(error)) from error
    if not rows:
        raise CohortError(f"{path} does not list any slides.")
    slides, wrong = [], []
    for row in rows:
        try:
            slides.append(_slide(path.parent.resolve(), row, annotations))
        except ValidationError as error:
            wrong += [f"line {row.line}: {sentence}" for sentence in _sentences(error)]
        except ValueError as error:
            wrong.append(f"line {row.line}: {error}")
    wrong += _contradictions(slides)
    if wrong:
        raise CohortError(f"{path} has {len(wrong)} errors:\n" + "\n".join(wrong))
    return slides


def _slide(folder: Path, cells: TableRow, annotations: str | None) -> CohortSlide:
    if cells.has_surplus:
        raise ValueError(SURPLUS)
    row = _Row.model_validate(cells.cells)
    annotation = row.annotation_path or (annotations or "").replace(_PLACE, row.slide)
    if not annotation:
        raise ValueError("the annotation is missing; fill annotation_path, or use --annotations")
    extra = row.model_extra or {}
    return CohortSlide(
        name=row.slide,
        patient=row.patient,
        he_path=_existing(folder / row.he_path),
        ihc_path=_existing(folder / row.ihc_path) if row.ihc_path else None,
        annotation_path=_existing(folder / annotation),
        her2_status=row.status,
        split=row.split,
        ihc_score=row.ihc_score,
        morphology={name: value for name, value in extra.items() if name not in _NOT_MORPHOLOGY},
    )


def _existing(path: Path) -> Path:
    try:
        is_file = path.is_file()
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror}") from error
    if not is_file:
        raise ValueError(f"{path} {'is not a file' if path.exists() else 'does not exist'}")
    return path


def _may_be_age(text: str) -> bool:
    """Return whether a cell holds an age, or words such as `not known`.

    What only `float` takes, such as "nan", "1_000" or the digits of other scripts, is neither: as
    words it would be an age that is not known, and nobody would notice.
    """
    age = read_number(text)
    if age is not None:
        return 0 <= age <= _OLDEST
    try:
        float(text.replace(",", "."))
    except ValueError:
        return True
    return False


def _sentences(error: ValidationError) -> Iterable[str]:
    for found in error.errors():
        where = ".".join(str(key) for key in found["loc"])
        said = found["msg"].removeprefix("Value error, ")
        yield f"{where}: {said}" if where else said


def _contradictions(slides: list[CohortSlide]) -> list[str]:
    """Find duplicate slides and scans, and patients in two splits."""
    wrong = [
        f"slide {name} is listed {times} times"
        for name, times in Counter(slide.name for slide in slides).items()
        if times > 1
    ]
    scans = _sharing(slides, lambda slide: slide.he_path)
    annotations = _sharing(slides, lambda slide: slide.annotation_path)
    for what, of in (("scan", scans), ("annotation", annotations)):
        wrong += [
            f"slides {' and '.join(names)} have the same {what}, {path}"
            for path, names in of.items()
            if len(set(names)) > 1
        ]
    wrong += [
        f"slide {slide.name} has as its IHC slide an H&E scan of the table, {slide.ihc_path}"
        for slide in slides
        if slide.ihc_path is not None and slide.ihc_path.resolve() in scans
    ]
    splits_of: dict[str, set[Split]] = {}
    for slide in slides:
        splits_of.setdefault(slide.patient, set()).add(slide.split)
    wrong += [
        f"patient {patient} is in the splits {' and '.join(sorted(splits))}; only one is allowed"
        for patient, splits in splits_of.items()
        if len(splits) > 1
    ]
    return wrong


def _sharing(
    slides: Iterable[CohortSlide], file_of: Callable[[CohortSlide], Path]
) -> dict[Path, list[str]]:
    """Return the names of the slides of each file, without regard to links."""
    found: dict[Path, list[str]] = {}
    for slide in slides:
        found.setdefault(file_of(slide).resolve(), []).append(slide.name)
    return found
