"""The scale of a scan, the 4x grid that follows from it, and what makes the scale doubtful.

Networks know tissue by its size in pixels. Where a file states its micrometres per pixel (MPP), the
grid therefore has those of the bundle within 5 %. The objective gives the grid where there is no
MPP, and where its 4x is within those 5 %.
"""

from dataclasses import dataclass

from her2d.method import MAGNIFICATION
from her2d.slides.errors import RefusedError
from her2d.slides.metadata import (
    DOUBTFUL,
    UM_PX_AT_1X,
    WRONG,
    MagnificationSource,
    SlideMetadata,
    within,
)

TOLERANCE = 0.05  # pixels of a scale that differs from the bundle's by at most this are used


@dataclass(frozen=True, slots=True)
class Scale:
    """How a scan is brought to the scale of the grid.

    Attributes:
        level0_um: micrometres per level-0 pixel; by the objective where the file states no MPP.
        um_per_px: micrometres per pixel that the networks need.
        downsample: level-0 pixels per grid pixel where a level is resampled.
    """

    level0_um: float
    um_per_px: float
    downsample: float

    def deviation(self, downsample: float) -> float:
        """Return by which share a level differs from the scale that the networks need.

        Args:
            downsample: level-0 pixels per pixel of the level.
        """
        return abs(self.level0_um * downsample / self.um_per_px - 1)


@dataclass(frozen=True, slots=True)
class ScaleDoubt:
    """Why the scale of a scan is doubtful.

    Attributes:
        remark: one or two sentences for a technician.
        is_wrong: whether no call may rest on it.
    """

    remark: str
    is_wrong: bool


def scale_of(metadata: SlideMetadata, um_per_px: float) -> Scale:
    """Return how a scan is brought to `um_per_px`.

    Raises:
        RefusedError: the scan is so coarse that it would have to be enlarged by over 25 %.
    """
    level0_um = _level0_um(metadata)
    if not within(level0_um / um_per_px - 1, WRONG):
        at = f"{metadata.magnification:g}x" if metadata.mpp is None else f"{level0_um:.4g} um/px"
        needed = "" if metadata.mpp is None else f" ({um_per_px:g} um/px)"
        raise RefusedError(
            f"was scanned at {at}, coarser than the {MAGNIFICATION:g}x{needed} that HER2 status is"
            " read at; scan it again at a higher magnification"
        )
    by_objective = Scale(level0_um, um_per_px, metadata.magnification / MAGNIFICATION)
    if within(by_objective.deviation(by_objective.downsample), TOLERANCE):
        return by_objective
    return Scale(level0_um, um_per_px, um_per_px / level0_um)


def find_scale_doubt(metadata: SlideMetadata, um_per_px: float) -> ScaleDoubt | None:
    """Return why the scale of a scan that was read at `um_per_px` is doubtful, None if it is not.

    It is if the file states a resolution that differs by over 10 % from the one that was used, or
    if the scan was enlarged by over 10 %.
    """
    disputed, coarse = _disputed(metadata), _coarse(metadata, um_per_px)
    if disputed is None or coarse is None:
        return disputed or coarse
    return ScaleDoubt(f"{disputed.remark} {coarse.remark}", disputed.is_wrong)


def _disputed(metadata: SlideMetadata) -> ScaleDoubt | None:
    other = metadata.disputed_mpp
    if other is None:
        return None
    usual = UM_PX_AT_1X / metadata.magnification
    assumed = metadata.magnification_source is MagnificationSource.ASSUMED
    stated = f"The file states {other.mpp:.4g} um/px ({other.source})"
    if assumed:
        remark = (
            f"{stated}, and the assumed {metadata.magnification:g}x means about {usual:.4g} um/px."
            " The assumption was used."
        )
        return ScaleDoubt(remark, is_wrong=False)
    objective = f"{metadata.magnification_source} = {metadata.magnification:g}"
    stated = f"{stated}, and {objective} means about {usual:.4g} um/px."
    if within(other.mpp / usual - 1, WRONG) and within(1 - other.mpp / usual, WRONG):
        return ScaleDoubt(f"{stated} The objective was used: check the scale.", is_wrong=False)
    return ScaleDoubt(
        f"{stated} One of them is wrong: set assume_magnification in config.toml to the right"
        " magnification.",
        is_wrong=True,
    )


def _coarse(metadata: SlideMetadata, um_per_px: float) -> ScaleDoubt | None:
    excess = _level0_um(metadata) / um_per_px - 1
    if within(excess, DOUBTFUL):
        return None
    return ScaleDoubt(
        f"The scan is {100 * excess:.0f} % coarser than the {um_per_px:g} um/px of the models. It"
        " was enlarged and lacks detail.",
        is_wrong=False,
    )


def _level0_um(metadata: SlideMetadata) -> float:
    return metadata.mpp if metadata.mpp is not None else UM_PX_AT_1X / metadata.magnification
