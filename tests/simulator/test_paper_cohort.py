"""Plans of a cohort as hard as the paper's. Nothing is rendered here."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from her2d.simulator.paper_cohort import EXTERNAL, INTERNAL, plan_paper_cohort
from her2d.simulator.plan import SlidePlan, plan_slide

SEED = 3


@pytest.fixture(scope="module")
def plans() -> list[SlidePlan]:
    return plan_paper_cohort(3000, SEED)


def of(plans: list[SlidePlan], **wanted: str) -> list[SlidePlan]:
    return [plan for plan in plans if all(getattr(plan, k) == v for k, v in wanted.items())]


def share(flags: list[bool]) -> float:
    return float(np.mean(flags))


def is_poorly_cohesive(plan: SlidePlan) -> bool:
    return plan.her2_status == "positive" and plan.histology.glandular == 0


def is_glandular_negative(plan: SlidePlan) -> bool:
    return plan.her2_status == "negative" and plan.histology.glandular is not None


def test_the_same_seed_gives_the_same_cohort():
    assert plan_paper_cohort(20, 3) == plan_paper_cohort(20, 3)


def test_another_seed_gives_slides_that_differ_in_more_than_their_names():
    seeds = [{plan.seed for plan in plan_paper_cohort(20, seed)} for seed in (3, 4)]
    assert not set.intersection(*seeds)


def test_twelve_percent_of_positive_slides_are_poorly_cohesive(plans):
    positive = of(plans, her2_status="positive")
    assert share([is_poorly_cohesive(plan) for plan in positive]) == pytest.approx(0.12, abs=0.01)
    assert {p.differentiation for p in positive if is_poorly_cohesive(p)} == {"poor"}


def test_eight_percent_of_negative_slides_have_glands_in_12_to_70_percent_of_their_tumour(plans):
    negative = of(plans, her2_status="negative")
    glandular = [plan for plan in negative if is_glandular_negative(plan)]
    assert len(glandular) / len(negative) == pytest.approx(0.08, abs=0.005)
    shares = [plan.histology.glandular for plan in glandular]
    assert 0.12 <= min(shares) < 0.15
    assert 0.67 < max(shares) <= 0.70


def test_p_is_as_frequent_just_below_the_threshold_as_just_above_it(plans):
    p = np.array([plan.strong_fraction for plan in plans if plan.strong_fraction > 0])
    below, above = ((p >= low) & (p < low + 0.02) for low in (0.08, 0.10))
    assert min(below.sum(), above.sum()) > 10
    assert 0.5 < below.sum() / above.sum() < 2


def test_ihc_is_read_wrong_only_near_the_threshold(plans):
    wrong = [
        plan.strong_fraction
        for plan in plans
        if (plan.strong_fraction >= 0.1) != (plan.her2_status == "positive")
    ]
    assert 3 < len(wrong) < 0.02 * len(plans)
    assert min(wrong) > 0.06
    assert max(wrong) < 0.15


@pytest.mark.parametrize("population", [INTERNAL, EXTERNAL])
def test_age_sex_differentiation_and_status_are_those_of_table_1(plans, population):
    slides = [plan for plan in plans if plan.center == population.center]
    ages = [plan.age for plan in slides]
    assert np.mean(ages) == pytest.approx(population.age[0], abs=2)
    assert np.std(ages) == pytest.approx(population.age[1], abs=1)
    assert share([p.sex == "male" for p in slides]) == pytest.approx(population.male, abs=0.05)
    assert share([p.her2_status == "positive" for p in slides]) == pytest.approx(
        population.positive, abs=0.005
    )
    tumors = [plan for plan in slides if plan.her2_status != "indeterminate"]
    poor = share([plan.differentiation == "poor" for plan in tumors])
    assert poor == pytest.approx(population.poor, abs=0.05)


def test_only_tumour_has_a_differentiation(plans):
    graded = {plan.her2_status for plan in plans if plan.differentiation}
    not_graded = {plan.her2_status for plan in plans if not plan.differentiation}
    assert (graded, not_graded) == ({"positive", "negative"}, {"indeterminate"})
    assert plan_slide("benign", 1, her2_status="indeterminate").differentiation == ""


@pytest.mark.parametrize("feature", ["mucinous", "adenoid", "papillary", "signet_ring"])
@pytest.mark.parametrize("population", [INTERNAL, EXTERNAL])
def test_histology_has_the_frequencies_of_tables_3_and_4(plans, population, feature):
    """Slides that a model is to mistake have the frequencies of those the paper's mistook."""
    negative = [
        plan for plan in of(plans, her2_status="negative") if plan.center == population.center
    ]
    for group, plans_of_group in (
        ("true_negative", [p for p in negative if not is_glandular_negative(p)]),
        ("false_positive", [p for p in negative if is_glandular_negative(p)]),
    ):
        drawn = share([getattr(plan.histology, feature) > 0 for plan in plans_of_group])
        expected = getattr(population.rates[group], feature)
        tolerance = 3 * (expected * (1 - expected) / len(plans_of_group)) ** 0.5
        assert drawn == pytest.approx(expected, abs=tolerance + 0.01)


def test_false_positives_of_the_paper_are_adenoid_and_papillary_more_often(plans):
    negative = of(plans, her2_status="negative")
    for feature in ("adenoid", "papillary"):
        rates = [
            share([getattr(plan.histology, feature) > 0 for plan in group])
            for group in (
                [plan for plan in negative if is_glandular_negative(plan)],
                [plan for plan in negative if not is_glandular_negative(plan)],
            )
        ]
        assert rates[0] > 1.5 * rates[1]


def test_lymphoid_follicles_are_as_frequent_as_in_tables_3_and_4(plans):
    for population in (INTERNAL, EXTERNAL):
        rest = [
            plan.histology.tertiary_lymphoid
            for plan in of(plans, her2_status="negative")
            if plan.center == population.center and not is_glandular_negative(plan)
        ]
        expected = population.rates["true_negative"].tertiary_lymphoid
        assert share(rest) == pytest.approx(expected, abs=0.07)


def test_foci_of_glands_in_other_tumour_cannot_make_it_positive(plans):
    for plan in plans:
        histology = plan.histology
        glands = plan.strong_fraction if histology.glandular is None else histology.glandular
        if glands < 0.1:
            assert histology.papillary <= 0.06
            assert histology.adenoid <= 0.06
        assert histology.papillary + histology.adenoid <= max(glands, 0.12)
        assert histology.signet_ring + histology.mucinous <= 0.8


@pytest.mark.parametrize("slides", [4, 8, 61, 3000])
def test_a_patient_is_in_one_split_and_the_second_centre_is_the_external_split(slides):
    plans = plan_paper_cohort(slides, SEED)
    assert len(plans) == slides
    assert set(Counter(plan.split for plan in plans)) == {
        "train",
        "integrator",
        "test",
        "external",
    }
    patients: dict[str, set[str]] = {}
    for plan in plans:
        patients.setdefault(plan.patient, set()).add(plan.split)
        assert (plan.center.name == "two") == (plan.split == "external")
    assert all(len(splits) == 1 for splits in patients.values())


def test_splits_have_the_sizes_of_the_papers():
    counts = Counter(plan.split for plan in plan_paper_cohort(748, SEED))
    assert counts["train"] + counts["integrator"] == 531
    assert (counts["test"], counts["external"]) == (115, 102)


def test_a_patients_slides_have_one_age_and_one_sex(plans):
    patients: dict[str, set[tuple[int | None, str]]] = {}
    for plan in plans:
        patients.setdefault(plan.patient, set()).add((plan.age, plan.sex))
    assert len(patients) < len(plans)
    assert all(len(found) == 1 for found in patients.values())


def test_there_are_biopsies_benign_slides_and_other_scales(plans):
    assert 0.1 < share([plan.specimen == "biopsy" for plan in plans]) < 0.2
    benign = of(plans, her2_status="indeterminate")
    assert share([plan in benign for plan in plans]) == pytest.approx(0.05, abs=0.005)
    assert {(plan.ihc_score, plan.strong_fraction) for plan in benign} == {("", 0.0)}
    assert {plan.magnification for plan in plans} == {4.0, 20.0}
    assert 0.05 < share([plan.magnification == 20 for plan in plans]) < 0.12
    odd = [plan.scale for plan in plans if plan.scale != 1]
    assert 0.1 < len(odd) / len(plans) < 0.2
    assert all(0.9 < scale < 1.1 for scale in odd)


def test_the_ihc_section_is_shifted_and_its_dab_varies(plans):
    shifts = [np.hypot(plan.ihc.shift_x, plan.ihc.shift_y) for plan in plans]
    assert 5 < np.median(shifts) < 15
    assert all(plan.ihc.noise > 0 for plan in plans)
    assert {plan.ihc.strong for plan in of(plans, ihc_score="2+")} == {0.65}


@given(slides=st.integers(1, 60), fraction=st.floats(0, 1))
@example(slides=4, fraction=0.5)
@example(slides=8, fraction=0.5)
def test_a_wanted_share_of_positive_slides_is_exact_and_within_1_of_it_in_each_split(
    slides, fraction
):
    plans = plan_paper_cohort(slides, SEED, positive_fraction=fraction)
    least = 1 if slides >= 4 and fraction > 0 else 0
    assert len(of(plans, her2_status="positive")) == max(round(slides * fraction), least)
    for split in ("train", "integrator", "test", "external"):
        of_split = of(plans, split=split)
        positive = len(of(of_split, her2_status="positive"))
        assert abs(positive - len(of_split) * fraction) <= 1


@given(slides=st.integers(4, 60))
def test_without_a_wanted_share_the_positive_slides_are_those_of_table_1(slides):
    plans = plan_paper_cohort(slides, SEED)
    external = of(plans, split="external")
    expected = {True: len(external) * 21 / 102, False: (slides - len(external)) * 81 / 646}
    total = sum(expected.values())
    assert abs(len(of(plans, her2_status="positive")) - max(total, 1)) <= 0.5 + 1e-9
    positive = len(of(external, her2_status="positive"))
    assert abs(positive - expected[True]) <= 1


def test_the_two_centres_differ_in_stain_optics_noise_and_tone():
    one, two = INTERNAL.center, EXTERNAL.center
    for attribute in ("hematoxylin", "eosin", "stain_strength", "blur", "noise", "white", "gamma"):
        assert getattr(one, attribute) != getattr(two, attribute)
