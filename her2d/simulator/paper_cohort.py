"""Plans of a cohort that is about as hard as the paper's.

HER2-high tumour mostly grows in tubules, but 12 % of the positive slides are poorly cohesive, and
8 % of the negative slides grow in tubules or papillae: the errors that the paper describes (section
2.4). P is continuous across the threshold. Histology, age, sex and differentiation have the
frequencies of Tables 1, 3 and 4, and the external slides come from another centre.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from her2d.method import MAGNIFICATION, THRESHOLD
from her2d.simulator.centers import REFERENCE, SECOND, Center
from her2d.simulator.plan import (
    SECOND_SLIDE_FRACTION,
    AnnotationNoise,
    Differentiation,
    Fish,
    Histology,
    IhcScore,
    IhcSection,
    SlidePlan,
    Status,
    some_artefacts,
)

POORLY_COHESIVE_POSITIVES = 0.12
GLANDULAR_NEGATIVES = 0.08
SMALLEST_SIDE = 1024
"""Of a slide, in pixels at 4x."""
GLANDULAR_SHARE = (0.12, 0.70)
"""Least and greatest share of tumour tiles with glands on such a negative slide."""

Split = Literal["train", "integrator", "test", "external"]
Group = Literal["true_positive", "false_negative", "true_negative", "false_positive"]
"""What the paper's model made of slides like this one."""

_BENIGN_FRACTION = 0.05
_BIOPSY_FRACTION = 0.12
_HIGH_MAGNIFICATION = {"resection": 0.05, "biopsy": 0.3}
_ODD_SCALE_FRACTION = 0.15
_ODD_SCALES = (0.92, 0.96, 1.04, 1.06)

# The paper's 748 slides (section 2.1), with 15 % of the training slides kept for the integrator.
_SPLITS: dict[Split, float] = {
    "train": 0.85 * 531 / 748,
    "integrator": 0.15 * 531 / 748,
    "test": 115 / 748,
    "external": 102 / 748,
}

# Frequencies of negative slides with HER2-high tumour, and of how much. The density of P is about
# the same on both sides of the threshold.
_HETEROGENEOUS_NEGATIVES = 0.25
_NEGATIVE_DECAY = 0.03
_POSITIVE_SHAPE = (1.0, 1.3)
_MOST_STRONG = 0.95
_READING_NOISE = 0.1
"""Standard deviation of the logarithm of the share that a pathologist reads from the IHC slide."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Frequencies of histology in a group of slides."""

    tertiary_lymphoid: float
    mucinous: float
    adenoid: float
    papillary: float
    signet_ring: float


@dataclass(frozen=True, slots=True)
class Population:
    """A centre's patients (Table 1), and the noise of its annotations."""

    center: Center
    positive: float
    age: tuple[float, float]
    male: float
    poor: float
    rates: dict[Group, Rates]
    annotation: AnnotationNoise


# The five false negatives of both tables; each table has too few of them.
_FALSE_NEGATIVES = Rates(2 / 5, 2 / 5, 4 / 5, 0.0, 0.0)

INTERNAL = Population(
    center=REFERENCE,
    positive=81 / 646,
    age=(57.647, 11.950),
    male=418 / 646,
    poor=509 / 646,
    rates={  # Table 3
        "true_positive": Rates(8 / 16, 1 / 16, 14 / 16, 3 / 16, 2 / 16),
        "false_negative": _FALSE_NEGATIVES,
        "true_negative": Rates(65 / 88, 22 / 88, 27 / 88, 3 / 88, 33 / 88),
        "false_positive": Rates(8 / 9, 2 / 9, 7 / 9, 1 / 9, 2 / 9),
    },
    annotation=AnnotationNoise(tumor=0.26, strong=0.10),
)
EXTERNAL = Population(
    center=SECOND,
    positive=21 / 102,
    age=(56.843, 12.020),
    male=70 / 102,
    poor=78 / 102,
    rates={  # Table 4
        "true_positive": Rates(6 / 18, 0.0, 17 / 18, 8 / 18, 0.0),
        "false_negative": _FALSE_NEGATIVES,
        "true_negative": Rates(54 / 73, 9 / 73, 40 / 73, 1 / 73, 27 / 73),
        "false_positive": Rates(4 / 8, 2 / 8, 6 / 8, 2 / 8, 1 / 8),
    },
    annotation=AnnotationNoise(tumor=0.32, strong=0.12),
)

# Poor differentiation of positive and false positive slides (Tables 3 and 4 together; external
# positives are counted with Table 3's, whose columns add up). The other negative slides have what
# is left to Table 1's frequency.
_POOR_POSITIVE = 13 / 39
_POOR_FALSE_POSITIVE = 11 / 17


def plan_paper_cohort(
    slides: int,
    seed: int,
    *,
    positive_fraction: float | None = None,
    width: int = 4096,
    height: int = 3072,
    artefact_probability: float = 0.0,
) -> list[SlidePlan]:
    """Draw the plans of a hard cohort of two centres.

    The number of slides of each split, and that of positive slides, are exact: positive slides are
    shared among the splits by their sizes. All else is random. Cohorts of four slides or more have
    all splits.

    Args:
        slides: number of slides.
        seed: the same seed gives the same cohort.
        positive_fraction: fraction of HER2-positive slides; None for each centre's of Table 1.
            Four slides or more have at least one.
        width, height: mean size of resections in pixels at 4x. Biopsies and scans at over 4x have
            half of that.
        artefact_probability: probability of each kind of artefact on a slide.
    """
    counts = _counts(slides, _SPLITS)
    return _planned(
        counts,
        _shared_positives(counts, positive_fraction),
        seed,
        size=(width, height),
        benign_fraction=_BENIGN_FRACTION,
        artefact_probability=artefact_probability,
    )


def plan_splits(
    slides: Mapping[Split, int],
    seed: int,
    *,
    positive: Mapping[Split, float],
    width: int,
    height: int,
    benign_fraction: float = _BENIGN_FRACTION,
    artefact_probability: float = 0.0,
) -> list[SlidePlan]:
    """Draw the plans of a hard cohort whose splits have given sizes.

    Args:
        slides: number of slides of each split.
        seed: the same seed gives the same cohort.
        positive: fraction of HER2-positive slides of each split, rounded in each; for splits that
            are not named, that of their centre in Table 1. Splits of four slides or more have at
            least one, unless it is 0.
        width, height: mean size of resections in pixels at 4x. Biopsies and scans at over 4x have
            half of that.
        benign_fraction: fraction of slides without tumour, most of them biopsies.
        artefact_probability: probability of each kind of artefact on a slide.
    """
    return _planned(
        slides,
        {
            split: _positives(count, positive.get(split, _population(split).positive))
            for split, count in slides.items()
        },
        seed,
        size=(width, height),
        benign_fraction=benign_fraction,
        artefact_probability=artefact_probability,
    )


def _planned(
    slides: Mapping[Split, int],
    positives: Mapping[Split, int],
    seed: int,
    *,
    size: tuple[int, int],
    benign_fraction: float,
    artefact_probability: float,
) -> list[SlidePlan]:
    rng = np.random.default_rng([seed, 30])
    plans: list[SlidePlan] = []
    for split, count in slides.items():
        population = _population(split)
        groups = _groups(count, positives[split], benign_fraction, rng)
        for number, group in enumerate(groups):
            earlier = plans[-1] if number and groups[number - 1] == group else None
            again = earlier is not None and rng.random() < 4 * SECOND_SLIDE_FRACTION
            plans.append(
                _plan(
                    f"H{seed:03d}-{len(plans):04d}",
                    split,
                    group,
                    population,
                    rng,
                    earlier=earlier if again else None,
                    size=size,
                    artefact_probability=artefact_probability,
                )
            )
    return plans


def _population(split: Split) -> Population:
    return EXTERNAL if split == "external" else INTERNAL


def _positives(slides: int, fraction: float) -> int:
    """Return the number of positive slides, of four or more at least one if it may have any."""
    least = 1 if slides >= 4 and fraction > 0 else 0
    return max(round(slides * fraction), least)


def _shared_positives(slides: Mapping[Split, int], fraction: float | None) -> dict[Split, int]:
    """Return the number of positive slides of each split, which is within 1 of its share.

    Args:
        slides: number of slides of each split.
        fraction: of positive slides in all; None for each centre's of Table 1.
    """
    exact = {
        split: count * (_population(split).positive if fraction is None else fraction)
        for split, count in slides.items()
    }
    total = sum(slides.values())
    mean = fraction if fraction is not None else sum(exact.values()) / max(total, 1)
    return _by_largest_remainder(_positives(total, mean), exact)


def _counts(total: int, shares: dict[Split, float]) -> dict[Split, int]:
    """Divide `total` by shares, to the largest remainders; of four or more each has one."""
    counts = _by_largest_remainder(total, {key: total * share for key, share in shares.items()})
    for key in counts if total >= len(counts) else ():
        while counts[key] < 1:
            counts[max(counts, key=lambda other: counts[other])] -= 1
            counts[key] += 1
    return counts


def _by_largest_remainder(total: int, exact: Mapping[Split, float]) -> dict[Split, int]:
    """Round shares down, and up where most is cut off, so that their sum is `total`."""
    counts = {key: int(value) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: counts[key] - exact[key])
    for key in by_remainder[: total - sum(counts.values())]:
        counts[key] += 1
    return counts


def _groups(
    count: int, positives: int, benign_fraction: float, rng: np.random.Generator
) -> list[Group | None]:
    """Return the group of each slide of a split, None for benign slides, in random order."""
    benign = min(round(count * benign_fraction), count - positives)
    groups: list[Group | None] = [
        *_some(positives, POORLY_COHESIVE_POSITIVES, "false_negative", "true_positive", rng),
        *_some(
            count - positives - benign,
            GLANDULAR_NEGATIVES,
            "false_positive",
            "true_negative",
            rng,
        ),
        *[None] * benign,
    ]
    return [groups[index] for index in rng.permutation(count)]


def _some(
    count: int, share: float, rare: Group, usual: Group, rng: np.random.Generator
) -> Iterator[Group]:
    """Yield `count` groups, the rare one as often as its share, rounded up or down at random."""
    rare_ones = int(count * share + rng.random())
    for number in range(count):
        yield rare if number < rare_ones else usual


def _plan(
    name: str,
    split: Split,
    group: Group | None,
    population: Population,
    rng: np.random.Generator,
    *,
    earlier: SlidePlan | None,
    size: tuple[int, int],
    artefact_probability: float,
) -> SlidePlan:
    """Draw the plan of a slide; `earlier` is one of the same patient, if there is one."""
    status: Status = "indeterminate"
    if group is not None:
        status = "positive" if group in ("true_positive", "false_negative") else "negative"
    strong = _strong_fraction(status, rng)
    score, fish = _ihc(status, rng)
    histology = Histology() if group is None else _histology(group, population, strong, rng)
    specimen: Literal["resection", "biopsy"] = (
        "biopsy" if rng.random() < (0.8 if group is None else _BIOPSY_FRACTION) else "resection"
    )
    high = rng.random() < _HIGH_MAGNIFICATION[specimen]
    half = 0.5 if high or specimen == "biopsy" else 1.0
    variation = rng.uniform(0.75, 1.25, 2) * half
    age = int(np.clip(round(rng.normal(*population.age)), 22, 90))
    sex: Literal["female", "male"] = "male" if rng.random() < population.male else "female"
    noise = rng.uniform(0.8, 1.2)
    return SlidePlan(
        name=name,
        patient=f"P{name}" if earlier is None else earlier.patient,
        seed=int(rng.integers(1 << 31)),
        width=max(SMALLEST_SIDE, int(size[0] * variation[0])),
        height=max(SMALLEST_SIDE, int(size[1] * variation[1])),
        her2_status=status,
        strong_fraction=strong,
        magnification=20.0 if high else MAGNIFICATION,
        scale=float(rng.choice(_ODD_SCALES)) if rng.random() < _ODD_SCALE_FRACTION else 1.0,
        differentiation=_differentiation(group, population, rng),
        ihc_score=score,
        fish=fish,
        barcode=str(rng.integers(100_000, 1_000_000)),
        artefacts=some_artefacts(artefact_probability, rng),
        specimen=specimen,
        center=population.center,
        histology=histology,
        ihc=_section(score, rng),
        annotation=AnnotationNoise(
            population.annotation.tumor * noise, population.annotation.strong * noise
        ),
        split=split,
        age=age if earlier is None else earlier.age,
        sex=sex if earlier is None else earlier.sex,
    )


def _strong_fraction(status: Status, rng: np.random.Generator) -> float:
    """Draw P: the share that was read from the IHC slide, with the error of reading it."""
    if status == "indeterminate":
        return 0.0
    if status == "positive":
        read = THRESHOLD + (_MOST_STRONG - THRESHOLD) * rng.beta(*_POSITIVE_SHAPE)
    elif rng.random() < _HETEROGENEOUS_NEGATIVES:
        # Exponential, cut off at the threshold.
        below = 1 - np.exp(-THRESHOLD / _NEGATIVE_DECAY)
        read = -_NEGATIVE_DECAY * np.log(1 - below * rng.random())
    else:
        return 0.0
    return float(min(read * np.exp(rng.normal(0, _READING_NOISE)), _MOST_STRONG))


def _ihc(status: Status, rng: np.random.Generator) -> tuple[IhcScore, Fish]:
    if status == "indeterminate":
        return "", ""
    if status == "positive":
        return ("3+", "") if rng.random() < 0.7 else ("2+", "positive")
    if rng.random() < 0.25:
        return "2+", "negative"
    return ("1+", "") if rng.random() < 0.5 else ("0", "")


def _histology(
    group: Group, population: Population, strong: float, rng: np.random.Generator
) -> Histology:
    rates = population.rates[group]
    lymphoid, mucinous, adenoid, papillary, signet_ring = rng.random(5) < (
        rates.tertiary_lymphoid,
        rates.mucinous,
        rates.adenoid,
        rates.papillary,
        rates.signet_ring,
    )
    glandular = {
        "true_positive": None,
        "false_negative": 0.0,
        "true_negative": None,
        "false_positive": float(rng.uniform(*GLANDULAR_SHARE)),
    }[group]
    glands = strong if glandular is None else glandular
    # Tumour without glands has foci of them, too small to make a tile strong.
    focus = glands < THRESHOLD
    papillae = rng.uniform(0.02, 0.06) if focus else glands * rng.uniform(0.35, 0.6)
    cribriform = rng.uniform(0.02, 0.06) if focus else glands * rng.uniform(0.2, 0.35)
    rings, lakes = rng.uniform(0.1, 0.4, 2) * (1 - glands)
    return Histology(
        glandular=glandular,
        papillary=float(papillae) if papillary else 0.0,
        adenoid=float(cribriform) if adenoid else 0.0,
        signet_ring=float(rings) if signet_ring else 0.0,
        mucinous=float(lakes) if mucinous else 0.0,
        tertiary_lymphoid=bool(lymphoid),
    )


def _differentiation(
    group: Group | None, population: Population, rng: np.random.Generator
) -> Differentiation:
    """Draw the differentiation; tumour that is poorly cohesive is poorly differentiated."""
    if group is None:
        return ""
    if group == "false_negative":
        return "poor"
    positive, glandular = population.positive, GLANDULAR_NEGATIVES
    poor = {
        "true_positive": (_POOR_POSITIVE - POORLY_COHESIVE_POSITIVES)
        / (1 - POORLY_COHESIVE_POSITIVES),
        "false_positive": _POOR_FALSE_POSITIVE,
        "true_negative": (
            (population.poor - positive * _POOR_POSITIVE) / (1 - positive)
            - glandular * _POOR_FALSE_POSITIVE
        )
        / (1 - glandular),
    }[group]
    return "poor" if rng.random() < poor else "moderate_or_well"


def _section(score: IhcScore, rng: np.random.Generator) -> IhcSection:
    """Draw the IHC section: a serial section, laid on its glass a little differently."""
    shift_x, shift_y = rng.normal(0, 8, 2)
    weak = {"": 0.0, "0": 0.0, "1+": 0.08, "2+": 0.2, "3+": 0.1}[score]
    return IhcSection(
        shift_x=float(shift_x),
        shift_y=float(shift_y),
        strong=0.65 if score == "2+" else 1.0,
        weak=weak * float(rng.uniform(0.7, 1.3)),
        noise=float(rng.uniform(0.3, 0.6)),
    )
