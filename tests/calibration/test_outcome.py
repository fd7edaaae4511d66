"""HER2 status by IHC and FISH."""

import pytest

from her2d.calibration.outcome import Fish, Ihc, her2_outcome


@pytest.mark.parametrize(
    ("ihc", "fish", "found"),
    [
        ("0", None, "negative"),
        ("1+", None, "negative"),
        ("2+", None, "equivocal"),
        ("2+", "amplified", "positive"),
        ("2+", "not amplified", "negative"),
        ("3+", None, "positive"),
        ("3+", "not amplified", "positive"),
        ("1+", "amplified", "negative"),
    ],
)
def test_positive_is_3_or_2_with_amplified_fish_and_2_without_fish_is_equivocal(ihc, fish, found):
    assert her2_outcome(Ihc(ihc), Fish(fish) if fish else None) == found
