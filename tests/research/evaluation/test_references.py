"""Table S5."""

from her2d.research.evaluation.references import reference_rows
from her2d.research.networks.build import CLASSIFIERS, SEGMENTERS
from her2d.research.training.integrators import INTEGRATORS


def test_every_model_that_her2d_trains_has_its_literature_and_code():
    models = [("segmenter", name) for name in SEGMENTERS]
    models += [("classifier", name) for name in CLASSIFIERS]
    models += [("integrator", name) for name in INTEGRATORS]
    for row in reference_rows(models):
        assert row.method, row.name
        assert row.literature, row.name
        assert row.code, row.name


def test_a_model_that_is_not_listed_keeps_its_row():
    (row,) = reference_rows([("encoder", "ours")])
    assert (row.name, row.method) == ("ours", None)
