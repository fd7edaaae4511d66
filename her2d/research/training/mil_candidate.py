"""Export the trained baseline that learns from slide labels as a bundle that is not yet named."""

import shutil
from pathlib import Path

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import Decision, Manifest, Mil, MilParts, ReferenceBag
from her2d.inference.mil_engine import OnnxRuntimeMilEngine, reference_bag
from her2d.research.networks.attention_mil import export_bag_graph
from her2d.research.training.bundle_writer import SEGMENTER_FILE, manifest_part, write_manifest
from her2d.research.training.mil import GRAPH_FILE, TrainedMil
from her2d.research.training.study import Study
from her2d.system.files import replace_folder

ENCODER_FILE = "encoder.onnx"


def write_mil_candidate(study: Study, mil: TrainedMil, her2net: Bundle) -> Bundle:
    """Export the baseline into `study.mil_candidate`, replacing an earlier export.

    It has the segmenter, the quality limits and the least tumour of the study's other candidate,
    which found and judged the tiles that the baseline is evaluated on.

    Args:
        study: A study with that candidate.
        mil: The trained baseline.
        her2net: The study's candidate, with its least tumour.

    Returns:
        The exported bundle.

    Raises:
        EncoderError: The encoder does not fit into a bundle.
        EngineError: ONNX Runtime cannot run what was exported.
        OSError: The folder cannot be written.
    """
    directory = study.mil_candidate.with_name("candidate-mil.part")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    shutil.copyfile(her2net.segmenter, directory / SEGMENTER_FILE)
    mil.encoder.export(directory / ENCODER_FILE)
    export_bag_graph(
        mil.graph, directory / GRAPH_FILE, sets=mil.encoder.sets, channels=mil.channels
    )
    manifest = _manifest(mil, her2net, directory)
    write_manifest(directory, manifest)
    write_manifest(directory, _with_reference(manifest, load_bundle(directory)))
    replace_folder(study.mil_candidate, directory)
    return load_bundle(study.mil_candidate)


def _manifest(mil: TrainedMil, her2net: Bundle, directory: Path) -> Manifest:
    """Return the manifest, whose reference tiles are still to be computed."""
    base, decision = her2net.manifest, mil.decision
    return base.model_copy(
        update={
            "name": "candidate-mil",
            "decision": Decision(
                min_tumor_tiles=base.decision.min_tumor_tiles,
                min_tumor_mm2=base.decision.min_tumor_mm2,
            ),
            "interval": None,
            "parts": MilParts(
                segmenter=base.parts.segmenter,
                encoder=manifest_part(directory, ENCODER_FILE, mil.encoder.name),
                attention=manifest_part(
                    directory, GRAPH_FILE, f"{len(mil.graph.networks)} x gated-attention MIL"
                ),
            ),
            "mil": Mil(
                threshold=decision.threshold,
                chosen_on=(
                    f"{decision.slides} {decision.chosen_on}, {decision.positive} of them positive"
                ),
                encoder=mil.encoder.name,
                sets=1 if mil.encoder.sets == 1 else 5,
                channels=mil.channels,
                input=mil.encoder.input,
                reference=ReferenceBag(p_positive=0.0, attention=()),
            ),
            "training": base.training.model_copy(
                update={"notes": "Learned from slide labels on the folds of the classifiers."}
            ),
        }
    )


def _with_reference(manifest: Manifest, bundle: Bundle) -> Manifest:
    """Return the manifest with what the bundle's graphs make of the reference tiles."""
    engine = OnnxRuntimeMilEngine(bundle)
    try:
        found = reference_bag(engine)
    finally:
        engine.close()
    mil = bundle.mil.model_copy(update={"reference": found})
    return manifest.model_copy(update={"mil": mil})
