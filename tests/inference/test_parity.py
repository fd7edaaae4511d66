"""The comparison of two engines, on outputs whose differences are easy to calculate."""

import numpy as np
import pytest

from her2d.bundle.integrator import Integrator
from her2d.inference.parity import Findings, compare, measure_parity, reference_findings

PIXELS = 512 * 512


def found(*tiles: tuple[float, float]) -> Findings:
    """Outputs for tiles of (tumour fraction, p(strong))."""
    mask = np.zeros((len(tiles), 512, 512), np.uint8)
    for tile, (fraction, _) in zip(mask, tiles, strict=True):
        tile[:, : round(512 * fraction)] = 1
    p = np.repeat([[p] for _, p in tiles], 5, axis=1).astype(np.float32)
    return Findings(mask.sum((1, 2), dtype=np.int64), mask, p)


@pytest.fixture
def compared(color_bundle):
    integrator = Integrator(color_bundle)

    def compared(reference, other):
        return compare(reference, other, integrator, tumor_fraction=0.10, verified_on="cpu")

    return compared


def test_equal_outputs_have_no_differences(compared):
    same = found((1.0, 0.9), (0.5, 0.1), (0.0, 0.5))
    parity = compared(same, same)
    assert (parity.mask_agreement, parity.max_dp, parity.changed_tiles) == (1.0, 0.0, 0.0)
    assert (parity.change_in_p, parity.tiles) == (0.0, 3)


def test_a_tile_that_turns_weak_moves_p_by_its_share_of_the_tumor(compared):
    parity = compared(found((1.0, 0.9), (1.0, 0.9)), found((1.0, 0.9), (1.0, 0.1)))
    assert parity.max_dp == pytest.approx(0.8)
    assert parity.changed_tiles == 0.5
    assert parity.change_in_p == pytest.approx(50.0)


def test_pixels_that_differ_count_even_where_no_class_changes(compared):
    parity = compared(found((1.0, 0.9)), found((0.75, 0.9)))
    assert parity.mask_agreement == 0.75
    assert (parity.changed_tiles, parity.change_in_p) == (0.0, 0.0)


def test_a_tile_that_falls_under_the_tumor_gate_is_changed(compared):
    parity = compared(found((0.125, 0.9), (1.0, 0.1)), found((0.0625, 0.9), (1.0, 0.1)))
    assert parity.changed_tiles == 0.5
    assert parity.change_in_p == pytest.approx(100 * 0.125 / 1.125)


def test_without_any_tumor_p_is_not_compared(compared):
    assert compared(found((0.0, 0.9)), found((0.0, 0.9))).change_in_p is None


def test_losing_all_tumor_is_the_largest_difference(compared):
    assert compared(found((1.0, 0.9)), found((0.0, 0.9))).change_in_p == 100.0


@pytest.mark.slow
def test_onnxruntime_agrees_with_itself(slim_bundle, tissue):
    from her2d.inference.onnxruntime_engine import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(slim_bundle, threads=1)
    parity = measure_parity(
        slim_bundle,
        reference_findings(slim_bundle, tissue(2), threads=1),
        engine,
        tissue(2),
        verified_on="cpu",
    )
    assert (parity.mask_agreement, parity.verified_on) == (1.0, "cpu")
    assert parity.max_dp < 1e-6
