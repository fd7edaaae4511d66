"""A bundle's graphs on ONNX Runtime."""

import shutil

import numpy as np
import onnxruntime as ort
import pytest
from inference_bundles import with_other_graphs

from her2d.bundle.integrator import INTEGRATOR_TRUSTED_TYPES, Integrator
from her2d.bundle.loading import load_bundle
from her2d.inference.engine import EngineError
from her2d.inference.selection import open_engine


@pytest.fixture
def engine(color_bundle):
    engine = open_engine(color_bundle, backend="auto", threads=1)
    yield engine
    engine.close()


def tiles(*colors: tuple[int, int, int]):
    return np.stack([np.full((512, 512, 3), color, np.uint8) for color in colors])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_any_number_of_tiles_goes_through_both_graphs(engine, n):
    batch = tiles(*[(60, 51 * i, 0) for i in range(n)])
    found = engine.segment(batch)
    assert found.tumor_pixels.dtype == np.int32
    assert found.tumor_pixels.tolist() == [512 * 512] * n
    assert (found.mask.dtype, found.mask.shape) == (np.uint8, (n, 512, 512))
    p = engine.classify(batch)
    assert (p.dtype, p.shape) == (np.float32, (n, 5))
    assert p[:, 0] == pytest.approx([0.2 * i for i in range(n)])


def test_a_graph_that_breaks_the_contract_is_refused(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "b")
    shutil.copy(tmp_path / "b/classifiers.onnx", tmp_path / "b/segmenter.onnx")
    swapped = with_other_graphs(color_bundle, tmp_path / "b")
    with pytest.raises(EngineError, match="lacks the output mask, tumor_pixels"):
        open_engine(swapped, backend="onnxruntime")


def test_a_file_that_is_not_a_graph_is_refused(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "b")
    (tmp_path / "b/segmenter.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError, match="cannot load"):
        open_engine(with_other_graphs(color_bundle, tmp_path / "b"), backend="onnxruntime")


def test_a_graph_that_is_changed_after_it_was_verified_is_refused(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "b")
    bundle = load_bundle(tmp_path / "b")
    shutil.copy(tmp_path / "b/classifiers.onnx", tmp_path / "b/segmenter.onnx")
    with pytest.raises(EngineError, match=r"segmenter\.onnx differs from the manifest"):
        open_engine(bundle, backend="onnxruntime")


def test_a_graph_that_is_changed_while_it_is_loaded_is_refused(color_bundle, tmp_path, monkeypatch):
    shutil.copytree(color_bundle.directory, tmp_path / "b")
    load = ort.InferenceSession

    def changing(path, *arguments, **options):
        session = load(path, *arguments, **options)
        shutil.copy(tmp_path / "b/classifiers.onnx", path)
        return session

    bundle = load_bundle(tmp_path / "b")
    monkeypatch.setattr(ort, "InferenceSession", changing)
    with pytest.raises(EngineError, match=r"segmenter\.onnx was changed while it was loaded"):
        open_engine(bundle, backend="onnxruntime")


def test_a_batch_of_the_wrong_shape_is_an_engine_error(engine):
    with pytest.raises(EngineError, match="failed on a batch of 2 tiles"):
        engine.segment(np.zeros((2, 256, 256, 3), np.uint8))


def test_an_unknown_back_end_is_refused(color_bundle):
    with pytest.raises(EngineError, match="no back end 'magic'"):
        open_engine(color_bundle, backend="magic")


def test_the_integrator_classifies_a_tile_by_its_five_probabilities(color_bundle):
    p = np.array([[0.9] * 5, [0.1] * 5], np.float32)
    found = Integrator(color_bundle).integrate(p)
    assert found.strong.tolist() == [True, False]
    assert found.p_strong.tolist() == [1.0, 0.0]


def test_the_integrators_class_is_scikit_learns(color_bundle):
    import skops.io

    p = np.random.default_rng(0).random((500, 5)).astype(np.float32)
    trusted = list(INTEGRATOR_TRUSTED_TYPES)
    expected = skops.io.load(color_bundle.integrator, trusted=trusted).predict(p).astype(bool)
    assert np.array_equal(Integrator(color_bundle).integrate(p).strong, expected)


def test_a_tile_is_strong_above_the_bundles_tile_cut(color_bundle, tmp_path):
    folder = tmp_path / "strict"
    shutil.copytree(color_bundle.directory, folder)
    with (folder / "manifest.toml").open("a") as file:
        file.write("\n[decision]\ntile_cut = 0.7\n")
    p = np.random.default_rng(0).random((500, 5)).astype(np.float32)
    found = Integrator(load_bundle(folder)).integrate(p)
    assert np.array_equal(found.strong, found.p_strong > 0.7)
    assert 0 < found.strong.sum() < Integrator(color_bundle).integrate(p).strong.sum()


def test_the_integrator_accepts_a_slide_without_tumor_tiles(color_bundle):
    found = Integrator(color_bundle).integrate(np.empty((0, 5), np.float32))
    assert (len(found.strong), len(found.p_strong)) == (0, 0)
