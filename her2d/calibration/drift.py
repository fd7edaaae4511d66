"""How far a bundle has moved from what was measured at its calibration. Pure functions."""

from her2d.bundle.site_calibration import Measure, MeasuredHere
from her2d.calibration.agreement import NO_BIAS, Bias, CalledSlides, call_bias, share_bias
from her2d.calibration.proportion import Z


def call_drift(slides: CalledSlides, calibrated: MeasuredHere | None) -> Bias:
    """Return the bias of the calls minus that at the calibration, as a share.

    The bias is the share of slides called positive minus the share that is positive by IHC and
    FISH. Without a calibration, none is expected.
    """
    then = None if calibrated is None else calibrated.call_bias_points
    return call_bias(slides).since(_bias(then))


def share_drift(slides: CalledSlides, calibrated: MeasuredHere | None) -> Bias:
    """Return the mean of P minus the share by IHC, minus that at the calibration, as a share.

    It is NaN for slides of fewer than two patients. Without a calibration, or if it had no shares,
    no difference is expected.
    """
    then = None if calibrated is None else calibrated.share_bias_points
    return share_bias(slides).since(_bias(then))


def _bias(points: Measure | None) -> Bias:
    if points is None:
        return NO_BIAS
    return Bias(points.value / 100, (points.high - points.low) / (2 * Z) / 100, 0)
