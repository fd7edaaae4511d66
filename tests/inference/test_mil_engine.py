"""Bundles that call slides by attention: what is refused, and with which sentence."""

import tomllib

import numpy as np
import onnx
import pytest
import tomli_w
from encoder_graphs import NCHW
from encoder_graphs import write_encoder as write_user_encoder
from mil_bundles import write_attention, write_encoder, write_mil_bundle
from onnx import helper

from her2d.bundle.loading import load_bundle
from her2d.bundle.manifest import BundleError
from her2d.inference.engine import EngineError
from her2d.inference.mil_engine import (
    OnnxRuntimeMilEngine,
    check_mil_bundle,
    mil_self_test,
    open_mil_engine,
    reference_tiles,
)
from her2d.inference.options import EngineOptions
from her2d.inference.selection import open_engine
from her2d.method import MethodName


@pytest.fixture(scope="module")
def bundle(color_bundle, tmp_path_factory):
    return write_mil_bundle(color_bundle, tmp_path_factory.mktemp("mil") / "attention")


def changed(bundle, folder, change):
    """Load a copy of the bundle whose manifest was changed."""
    folder.mkdir()
    for file in bundle.directory.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    change(manifest)
    (folder / "manifest.toml").write_text(tomli_w.dumps(manifest))
    return load_bundle(folder)


def test_its_manifest_says_how_it_calls_slides(bundle, color_bundle):
    assert bundle.manifest.method is MethodName.MIL
    assert color_bundle.manifest.method is MethodName.HER2NET


def test_it_passes_its_own_self_test(bundle):
    check_mil_bundle(bundle)


def test_reference_tiles_are_always_the_same_and_differ_from_each_other():
    tiles = reference_tiles()
    assert np.array_equal(tiles, reference_tiles())
    assert tiles.shape == (3, 512, 512, 3)
    assert len({tile.tobytes() for tile in tiles}) == 3
    assert len(np.unique(tiles)) > 200


def test_a_change_of_what_the_graphs_compute_is_found_at_the_start(bundle, color_bundle, tmp_path):
    other = write_mil_bundle(
        color_bundle,
        tmp_path / "other",
        attention=lambda path: write_attention(path, scale=0.9),
        mil={"reference": bundle.mil.reference.model_dump()},
        with_reference=False,
    )
    with pytest.raises(EngineError, match=r"differs by .* from what the bundle states"):
        check_mil_bundle(other)


def test_a_reference_of_other_tiles_is_refused(bundle, tmp_path):
    def one_tile(manifest):
        manifest["mil"]["reference"]["attention"] = [1.0]

    with pytest.raises(EngineError, match="has 1 numbers, and there are 3 reference tiles"):
        check_mil_bundle(changed(bundle, tmp_path / "b", one_tile))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m.pop("mil"), "a bundle with an encoder needs the section mil"),
        (lambda m: m["mil"].pop("reference"), "mil.reference: Field required"),
        (lambda m: m["mil"].update(threshold=1.5), "mil.threshold: Input should be less than"),
        (lambda m: m["mil"].update(sets=2), "mil.sets: Input should be 1 or 5"),
        (lambda m: m["mil"].update(max_tiles=0), "mil.max_tiles: Input should be greater than"),
        (lambda m: m["mil"].update(input={"mean": [0.1, 0, 0]}), "mean and std are for a float"),
        (lambda m: m["decision"].update(tile_cut=0.4), "a bundle with mil has mil.threshold"),
        (lambda m: m["parts"].pop("attention"), "parts.attention: Field required"),
        (lambda m: m["parts"]["encoder"].update(sha256="x"), "parts.encoder.sha256: "),
        (
            lambda m: m["parts"]["encoder"].update(file="../encoder.onnx"),
            "must be a path inside the bundle",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused_with_its_key(
    bundle, tmp_path, change, sentence
):
    with pytest.raises(BundleError) as refused:
        changed(bundle, tmp_path / "b", change)
    assert sentence in str(refused.value)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_the_section_mil_needs_an_encoder(color_bundle, bundle, tmp_path):
    def with_section(manifest):
        manifest["mil"] = bundle.mil.model_dump(exclude_none=True)

    with pytest.raises(BundleError, match="the section mil needs the parts segmenter, encoder"):
        changed(color_bundle, tmp_path / "b", with_section)


@pytest.mark.parametrize("part", ["segmenter", "encoder", "attention"])
def test_a_missing_graph_is_named(bundle, tmp_path, part):
    copy = changed(bundle, tmp_path / "b", lambda _: None)
    (copy.directory / f"{part}.onnx").unlink()
    with pytest.raises(BundleError, match=rf"{part}\.onnx cannot be read"):
        load_bundle(copy.directory)
    with pytest.raises(EngineError, match=rf"{part}\.onnx"):
        OnnxRuntimeMilEngine(copy, threads=1)


@pytest.mark.parametrize("part", ["encoder", "attention"])
def test_an_altered_graph_is_not_used(bundle, tmp_path, part):
    copy = changed(bundle, tmp_path / "b", lambda _: None)
    with (copy.directory / f"{part}.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="differs from the manifest"):
        load_bundle(copy.directory)


def test_a_graph_that_is_not_onnx_is_refused(color_bundle, tmp_path):
    bundle = write_mil_bundle(
        color_bundle,
        tmp_path / "b",
        attention=lambda path: path.write_bytes(b"not a graph") and None,
        with_reference=False,
    )
    with pytest.raises(EngineError, match=r"cannot load .*attention\.onnx"):
        check_mil_bundle(bundle)


def test_a_head_for_other_features_is_refused(color_bundle, tmp_path):
    bundle = write_mil_bundle(
        color_bundle,
        tmp_path / "b",
        attention=lambda path: write_attention(path, channels=7),
        with_reference=False,
    )
    with pytest.raises(EngineError, match=r"features, float32 \(T, 1, 1\)\. It has features"):
        check_mil_bundle(bundle)


def test_an_encoder_with_other_features_than_the_manifest_says_is_refused(color_bundle, tmp_path):
    bundle = write_mil_bundle(
        color_bundle,
        tmp_path / "b",
        encoder=lambda path: write_encoder(path, channels=4),
        with_reference=False,
    )
    with pytest.raises(EngineError, match="the manifest says 1 x 1 features for each"):
        check_mil_bundle(bundle)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1.0, 100.0])
def test_a_head_that_gives_no_probability_is_refused(color_bundle, tmp_path, scale):
    bundle = write_mil_bundle(
        color_bundle,
        tmp_path / "b",
        attention=lambda path: write_attention(path, scale=scale),
        with_reference=False,
    )
    with pytest.raises(EngineError, match=r"not finite numbers|outside 0 to 1"):
        check_mil_bundle(bundle)


def test_features_beyond_half_precision_are_refused(color_bundle, tmp_path):
    def huge(path):
        write_encoder(path)
        model = onnx.load(path)
        (divisor,) = (one for one in model.graph.initializer if one.name == "full")
        divisor.CopyFrom(onnx.numpy_helper.from_array(np.float32([1e-5]), "full"))
        onnx.save(model, path)

    bundle = write_mil_bundle(color_bundle, tmp_path / "b", encoder=huge, with_reference=False)
    with pytest.raises(EngineError, match="exceed the range of half precision"):
        check_mil_bundle(bundle)


def test_a_head_whose_weights_do_not_add_up_is_refused(color_bundle, tmp_path):
    bundle = write_mil_bundle(
        color_bundle,
        tmp_path / "b",
        attention=lambda path: write_attention(path, weights="Sigmoid", scale=0.01),
        with_reference=False,
    )
    with pytest.raises(EngineError, match="weights whose sum is not 1"):
        check_mil_bundle(bundle)


def test_a_head_without_attention_is_refused(color_bundle, tmp_path):
    def without(path):
        write_attention(path)
        model = onnx.load(path)
        del model.graph.output[1]
        onnx.save(model, path)

    bundle = write_mil_bundle(color_bundle, tmp_path / "b", attention=without, with_reference=False)
    with pytest.raises(EngineError, match="lacks the output attention"):
        check_mil_bundle(bundle)


def test_an_encoder_that_takes_something_else_than_the_manifest_says_is_refused(
    color_bundle, tmp_path
):
    bundle = write_mil_bundle(
        color_bundle,
        tmp_path / "b",
        mil={"input": {"layout": "NCHW", "dtype": "float32", "rows": 224, "columns": 224}},
        with_reference=False,
    )
    with pytest.raises(EngineError, match=r"takes float32 \(N, 3, 224, 224\)\. It takes tiles"):
        check_mil_bundle(bundle)


def test_an_encoder_of_the_users_gets_tiles_as_the_manifest_says(color_bundle, tmp_path):
    (tmp_path / "theirs").mkdir()
    shape = ("N", 3, 64, 64)

    def copied(path):
        write_user_encoder(path.parent, shape)

    bundle = write_mil_bundle(
        color_bundle,
        tmp_path / "b",
        encoder=copied,
        attention=lambda path: write_attention(path, channels=3),
        mil={
            "channels": 3,
            "input": {
                "layout": "NCHW",
                "dtype": "float32",
                "rows": 64,
                "columns": 64,
                "mean": [0.0, 0.25, 0.0],
                "std": [0.5, 1.0, 2.0],
            },
        },
    )
    check_mil_bundle(bundle)
    tile = np.full((1, 512, 512, 3), (51, 102, 204), np.uint8)
    engine = OnnxRuntimeMilEngine(bundle, threads=1)
    found = engine.encode(tile)
    engine.close()
    wanted = [0.2 / 0.5, (0.4 - 0.25) / 1.0, 0.8 / 2.0]
    assert found.dtype == np.float16
    assert found[0, 0] == pytest.approx(wanted, abs=1e-3)


def test_an_encoder_of_one_tile_at_a_time_gets_them_so(color_bundle, tmp_path):
    bundle = write_mil_bundle(
        color_bundle,
        tmp_path / "b",
        encoder=lambda path: write_user_encoder(path.parent, (1, *NCHW[1:])) and None,
        attention=lambda path: write_attention(path, channels=3),
        mil={
            "channels": 3,
            "input": {"layout": "NCHW", "dtype": "float32", "batch": 1},
        },
    )
    check_mil_bundle(bundle)


def test_weights_in_other_files_are_refused(color_bundle, tmp_path):
    def elsewhere(path):
        write_encoder(path)
        model = onnx.load(path)
        weights = np.zeros((2000,), np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "unused"))
        model.graph.node.append(helper.make_node("Identity", ["unused"], ["ignored"]))
        onnx.save_model(
            model, path, save_as_external_data=True, location="weights", size_threshold=1000
        )

    with pytest.raises(BundleError, match="keeps weights in other files"):
        write_mil_bundle(color_bundle, tmp_path / "b", encoder=elsewhere, with_reference=False)


@pytest.mark.parametrize("backend", ["torch", "openvino", "tensorrt", "tensorrt_rtx"])
def test_other_back_ends_are_refused_in_one_sentence(bundle, backend):
    with pytest.raises(EngineError, match=rf"^{backend} cannot run the bundle .*auto"):
        open_mil_engine(bundle, backend=backend, options=EngineOptions())


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_other_precisions_are_refused_in_one_sentence(bundle, precision):
    with pytest.raises(EngineError, match=f"runs in fp32 only, not in {precision}"):
        open_mil_engine(bundle, backend="auto", options=EngineOptions(precision=precision))


def test_her2nets_engine_refuses_it_in_one_sentence(bundle):
    with pytest.raises(BundleError, match="has no tile classifiers, which this needs"):
        open_engine(bundle, backend="onnxruntime")


def test_its_engine_refuses_her2nets_bundle_in_one_sentence(color_bundle):
    with pytest.raises(BundleError, match="it is HER2Net's"):
        OnnxRuntimeMilEngine(color_bundle)


def test_a_lost_difference_within_the_tolerance_is_not_one(bundle, tmp_path):
    def nudged(manifest):
        manifest["mil"]["reference"]["p_positive"] += 0.0005

    engine = OnnxRuntimeMilEngine(changed(bundle, tmp_path / "b", nudged), threads=1)
    mil_self_test(engine)
    engine.close()
