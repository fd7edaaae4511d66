"""Five folds, stratified by HER2 status at slide level (paper, section 4.4).

The paper splits 531 slides of 520 patients and does not mention patients with two slides. By
default her2d keeps all slides of a patient in one fold; `slide` splits as the paper does.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from her2d.errors import Her2dError
from her2d.method import FOLDS
from her2d.research.training.study import write_text


class FoldsError(Her2dError):
    """The folds cannot be made or used; `str(error)` says why."""


class Grouping(StrEnum):
    """The unit whose slides all belong to one fold."""

    PATIENT = "patient"
    SLIDE = "slide"


class StratifiedSlide(Protocol):
    """The facts about a slide that the split depends on."""

    @property
    def name(self) -> str: ...
    @property
    def patient(self) -> str: ...
    @property
    def her2_status(self) -> str: ...


class Folds(BaseModel):
    """The fold in which each slide is held out, as saved in folds.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    grouping: Grouping
    held_out_in: dict[str, int]
    her2_status: dict[str, str]
    """HER2 status of each slide, which the folds are stratified by."""


def assign_folds(
    slides: Sequence[StratifiedSlide], seed: int, grouping: Grouping = Grouping.PATIENT
) -> NDArray[np.int64]:
    """Assign each of S slides to the fold in which it is held out.

    Args:
        slides: The slides.
        seed: Seed of the shuffle.
        grouping: Which slides must be in the same fold.

    Returns:
        Fold numbers from 0, int64 (S,).

    Raises:
        ValueError: A HER2 status has fewer slides than there are folds.
    """
    statuses = [slide.her2_status for slide in slides]
    by_patient = grouping is Grouping.PATIENT
    patients = [slide.patient for slide in slides] if by_patient else None
    kind = StratifiedGroupKFold if by_patient else StratifiedKFold
    splitter = kind(FOLDS, shuffle=True, random_state=seed)
    fold = np.empty(len(slides), np.int64)
    for number, (_, held_out) in enumerate(splitter.split(statuses, statuses, patients)):
        fold[held_out] = number
    return fold


def load_or_make_folds(
    path: Path, slides: Sequence[StratifiedSlide], *, seed: int, grouping: Grouping
) -> NDArray[np.int64]:
    """Read the folds of S slides from a file, or make them and write the file if it is missing.

    Args:
        path: The file, folds.json.
        slides: The slides.
        seed: Seed of the shuffle.
        grouping: Which slides must be in the same fold.

    Returns:
        The fold in which each slide is held out, int64 (S,).

    Raises:
        FoldsError: The file was made for other slides, patients, statuses, seed or grouping, or
            the folds cannot be made.
        OSError: The file cannot be written.
    """
    if path.is_file():
        folds = read_folds(path, slides)
        if (folds.seed, folds.grouping) != (seed, grouping):
            raise FoldsError(
                f"{path} was made with seed {folds.seed} and grouped by {folds.grouping}. Use the"
                " same seed and grouping, or remove it and train every network again."
            )
        return np.array([folds.held_out_in[slide.name] for slide in slides], np.int64)
    try:
        found = assign_folds(slides, seed, grouping)
    except ValueError as error:
        raise FoldsError(f"Cannot make five folds: {error}.") from error
    names = [slide.name for slide in slides]
    folds = Folds(
        seed=seed,
        grouping=grouping,
        held_out_in=dict(zip(names, found.tolist(), strict=True)),
        her2_status={slide.name: str(slide.her2_status) for slide in slides},
    )
    write_text(path, folds.model_dump_json(indent=1))
    return found


def read_folds(path: Path, slides: Sequence[StratifiedSlide]) -> Folds:
    """Read the folds of `slides`.

    Args:
        path: The file, folds.json.
        slides: The slides that the folds must be of.

    Raises:
        FoldsError: The file is missing or not valid, or was made for other slides, patients or
            statuses.
    """
    if not path.is_file():
        raise FoldsError(f"{path} is missing. Run `her2d train classifiers` to make it again.")
    try:
        folds = Folds.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise FoldsError(
            f"{path} is not valid. Restore it, or remove it and train every network again."
        ) from error
    if set(folds.held_out_in) != {slide.name for slide in slides}:
        raise FoldsError(
            f"{path} holds the folds of other slides. Restore the cohort table, or remove the file"
            " and train every network again."
        )
    _check_slides(path, folds, slides)
    return folds


def _check_slides(path: Path, folds: Folds, slides: Sequence[StratifiedSlide]) -> None:
    """Raise FoldsError if a slide's patient or status changed after the folds were made."""
    first: dict[str, StratifiedSlide] = {}
    for slide in slides:
        was = folds.her2_status[slide.name]
        if was != slide.her2_status:
            raise FoldsError(
                f"{path} was made when {slide.name} was {was}; it is {slide.her2_status} now."
                " Remove the file and train every network again."
            )
        other = first.setdefault(slide.patient, slide)
        separated = folds.held_out_in[other.name] != folds.held_out_in[slide.name]
        if folds.grouping is Grouping.PATIENT and separated:
            raise FoldsError(
                f"{path} has {other.name} and {slide.name} of patient {slide.patient} in two folds."
                " Remove the file and train every network again."
            )
