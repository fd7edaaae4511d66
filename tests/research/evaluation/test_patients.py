"""Patients with several slides, by the stated rule."""

from cohort_slides import cohort_slide, prediction_of

from her2d.research.evaluation.patients import patient_predictions, patient_row


def slide(patient: str, status: str, percent: float | None):
    return prediction_of(cohort_slide(f"{patient}-{status}", status, patient=patient), percent)


def test_one_positive_slide_makes_a_patient_positive_and_p_is_the_highest():
    (patient,) = patient_predictions(
        [slide("P", "negative", 2.0), slide("P", "positive", 40.0), slide("P", "negative", 8.0)]
    )
    assert (patient.true_status, patient.predicted) == ("positive", "positive")
    assert (patient.percent, patient.slides, patient.is_discordant) == (40.0, 3, True)


def test_a_slide_without_a_call_does_not_hide_the_call_of_another():
    (patient,) = patient_predictions([slide("P", "negative", None), slide("P", "negative", 3.0)])
    assert patient.predicted == "negative"


def test_a_patient_without_any_call_has_none():
    (patient,) = patient_predictions([slide("P", "positive", None)])
    assert (patient.predicted, patient.percent) == ("indeterminate", None)


def test_slides_without_tumour_do_not_count():
    assert patient_predictions([slide("P", "indeterminate", 30.0)]) == []
    (patient,) = patient_predictions([slide("P", "indeterminate", 30.0), slide("P", "negative", 1)])
    assert (patient.predicted, patient.slides) == ("negative", 1)


def test_patients_are_counted_once_whatever_the_number_of_their_slides():
    slides = [slide("A", "positive", 50.0)] * 5 + [slide("B", "positive", 1.0)]
    slides += [slide("C", "negative", 1.0), slide("D", "negative", None)]
    row = patient_row("test", slides)
    assert (row.patients, row.with_several_slides, row.without_call) == (4, 1, 1)
    assert (row.confusion.tp, row.confusion.fn, row.confusion.tn) == (1, 1, 1)
    assert row.sensitivity.value == 0.5
    # AUROC of P 50 and 1 against 1: one pair is right, one is tied.
    assert row.auroc.value == 0.75
