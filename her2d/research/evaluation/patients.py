"""Results of patients, of whom some have several slides. Pure functions.

HER2 varies within gastric cancers, and guidelines call a patient positive by any positive block.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from her2d.research.evaluation.called_slides import (
    INDETERMINATE,
    Prediction,
    metrics_of,
    with_call,
    with_status,
)
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.rows import Interval, Row
from her2d.research.training.cohort import Status

PATIENT_RULE = (
    "A patient is positive if any slide is positive, and otherwise negative if any slide is"
    " negative; this rule applies to the true and to the predicted status. P of a patient is the"
    " highest P of the slides with a call. Slides without tumour and slides without a call do not"
    " count, and a patient without any call has none."
)


@dataclass(frozen=True, slots=True)
class PatientPrediction:
    """True and predicted status of one patient; see `PATIENT_RULE`.

    Attributes:
        patient: Name of the patient.
        slides: Number of slides with a true status.
        true_status, predicted: By the rule.
        percent: Highest P of the slides; None without a call.
        is_discordant: Whether the slides with a true status differ in it.
    """

    patient: str
    slides: int
    true_status: str
    predicted: str
    percent: float | None
    is_discordant: bool


class PatientRow(Row):
    """Patients of one test set.

    Attributes:
        set: Name of the test set.
        patients: Patients with a true status.
        with_several_slides: Those of them with more than one such slide.
        discordant: Those whose slides differ in their true status.
        confusion: Patients with a true and a predicted status.
        without_call: Patients with a true status and without a call.
        accuracy, sensitivity, specificity, auroc: The metrics.
    """

    set: str
    patients: int
    with_several_slides: int
    discordant: int
    confusion: Confusion
    without_call: int
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    auroc: Interval


def patient_predictions(slides: Sequence[Prediction]) -> list[PatientPrediction]:
    """Combine the slides of each patient by `PATIENT_RULE`.

    Args:
        slides: Predictions of slides of one test set.

    Returns:
        The patients with a true status, in the order of their first slides.
    """
    of_patient: dict[str, list[Prediction]] = {}
    for slide in with_status(slides):
        of_patient.setdefault(slide.patient, []).append(slide)
    found = []
    for patient, of in of_patient.items():
        called = with_call(of)
        found.append(
            PatientPrediction(
                patient=patient,
                slides=len(of),
                true_status=_combined([slide.true_status for slide in of]),
                predicted=_combined([slide.predicted for slide in called]),
                percent=max((s.percent for s in called if s.percent is not None), default=None),
                is_discordant=len({slide.true_status for slide in of}) > 1,
            )
        )
    return found


def patient_row(set_name: str, slides: Sequence[Prediction]) -> PatientRow:
    """Measure the patients of a test set.

    Args:
        set_name: Name of the test set.
        slides: Predictions of its slides.
    """
    patients = patient_predictions(slides)
    metrics = metrics_of(patients)
    return PatientRow(
        set=set_name,
        patients=len(patients),
        with_several_slides=sum(patient.slides > 1 for patient in patients),
        discordant=sum(patient.is_discordant for patient in patients),
        confusion=metrics.confusion,
        without_call=len(patients) - metrics.confusion.total,
        accuracy=Interval.of(metrics.accuracy),
        sensitivity=Interval.of(metrics.sensitivity),
        specificity=Interval.of(metrics.specificity),
        auroc=Interval.of(metrics.auroc),
    )


def _combined(statuses: Sequence[str]) -> str:
    for status in (Status.POSITIVE, Status.NEGATIVE):
        if status.value in statuses:
            return status.value
    return INDETERMINATE
