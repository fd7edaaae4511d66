"""Compile a bundle to a plan beside it: cast, build, compare, and only then write the sidecar."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx

from her2d import __version__
from her2d.bundle.loading import Bundle, sha256_of
from her2d.bundle.manifest import Part
from her2d.inference.compiler.cast_precision import UnknownOperatorError, cast_to_precision
from her2d.inference.compiler.measure_ways import measure_ways
from her2d.inference.compiler.quantize import quantized
from her2d.inference.compiler.tensorrt_builder import BuildProgress, build_plan
from her2d.inference.compiler.tensorrt_graph import for_tensorrt
from her2d.inference.engine import EngineError, Tiles
from her2d.inference.graph_files import read_graph
from her2d.inference.openvino_engine import precision_problem
from her2d.inference.options import ON_CPU, BackendName, EngineOptions, Precision
from her2d.inference.parity import measure_parity, reference_findings
from her2d.inference.plan_engine import engine_of
from her2d.inference.plans import (
    CompiledPart,
    PlanError,
    PlanFiles,
    Platform,
    Profile,
    Sidecar,
    write_sidecar,
)
from her2d.inference.platforms import library_of, platform_of


@dataclass(frozen=True, slots=True)
class TilesToTry:
    """Tissue tiles like those that will be scored, uint8 (N, 512, 512, 3) each, N >= 1.

    Attributes:
        calibration: tiles from which the ranges for int8 are taken.
        check: tiles on which the plan is compared; none of them is in `calibration`.
    """

    calibration: Tiles
    check: Tiles


@dataclass(frozen=True, slots=True)
class CompileOrder:
    """What to compile.

    Attributes:
        backend, precision: what the plan is for.
        segmenter, classifiers: batches in which the pipeline will pass tiles.
    """

    backend: BackendName
    precision: Precision
    segmenter: Profile
    classifiers: Profile


@dataclass(frozen=True, slots=True)
class Compiled:
    """A plan on disk and the content of its sidecar."""

    files: PlanFiles
    sidecar: Sidecar


def compile_bundle(
    bundle: Bundle,
    order: CompileOrder,
    tiles: TilesToTry,
    *,
    progress: BuildProgress = lambda *_: None,
) -> Compiled:
    """Compile a plan beside `bundle`; a refused plan leaves no file behind.

    If there is a device for it, the plan is compared with ONNX Runtime in fp32. Otherwise it stays
    unverified, and the comparison is made when it is first loaded.

    Args:
        bundle: a verified bundle in a writable folder.
        order: the back end, precision and batches.
        tiles: tiles for calibration and for the comparison.
        progress: called at the beginning, at every step and at the end of each phase.

    Raises:
        PlanError: the plan differs too much from fp32.
        EngineError: it cannot be compiled.
        OSError: it cannot be written.
    """
    platform = platform_for(order)
    files = PlanFiles(bundle, order.backend, order.precision)
    # A plan without a sidecar is not loaded, so an old sidecar must not vouch for new files.
    files.sidecar.unlink(missing_ok=True)
    try:
        return _compile(files, order, platform, tiles, progress)
    except BaseException:
        for path in (files.segmenter, files.classifiers, files.check_tiles):
            path.unlink(missing_ok=True)
        raise


def fastest_precision(backend: BackendName) -> Precision:
    """Return the fastest precision of `backend` on this machine, other than int8 where it can.

    Raises:
        EngineError: the back end is not installed, or is not faster here than ONNX Runtime.
    """
    if backend == "onnxruntime":
        return "int8"  # It runs fp32 without a plan.
    if backend == "openvino":
        if problem := precision_problem(library_of(backend), "bf16"):
            raise EngineError(
                f"{problem} In fp32 OpenVINO is not faster than ONNX Runtime, which needs no plan;"
                " --precision fp32 compiles it nevertheless."
            )
        return "bf16"
    return "fp16"


def platform_for(order: CompileOrder) -> Platform:
    """Find the library and device for `order`. Raises EngineError if it cannot be compiled here."""
    if order.backend == "torch" or (order.backend == "onnxruntime" and order.precision != "int8"):
        raise EngineError(f"{order.backend} runs {order.precision} without a compiled plan.")
    if order.backend == "openvino" and (
        problem := precision_problem(library_of("openvino"), order.precision)
    ):
        raise EngineError(problem)
    return platform_of(order.backend)


def _compile(
    files: PlanFiles,
    order: CompileOrder,
    platform: Platform,
    tiles: TilesToTry,
    progress: BuildProgress,
) -> Compiled:
    bundle, parts = files.bundle, files.bundle.her2net
    segmenter, classifiers = (
        _compile_part(source, part, plan, profile, order, tiles.calibration, progress)
        for source, part, plan, profile in (
            (bundle.segmenter, parts.segmenter, files.segmenter, order.segmenter),
            (bundle.classifiers, parts.classifiers, files.classifiers, order.classifiers),
        )
    )
    np.savez_compressed(files.check_tiles, tiles=tiles.check)
    sidecar = Sidecar(
        backend=order.backend,
        precision=order.precision,
        library_version=platform.library_version,
        gpu=platform.gpu,
        compute_capability=platform.compute_capability,
        segmenter=segmenter,
        classifiers=classifiers,
        parity=None,
        compiled_at=datetime.now(UTC).isoformat(timespec="seconds"),
        software_version=__version__,
    )
    return _verified(files, sidecar, platform, tiles.check, progress)


def _compile_part(
    source: Path,
    part: Part,
    plan: Path,
    profile: Profile,
    order: CompileOrder,
    calibration: Tiles,
    progress: BuildProgress,
) -> CompiledPart:
    graph = _graph(source, part, order, calibration, progress)
    if order.backend in ON_CPU:  # which compile the graph when they load it
        plan.write_bytes(graph)
    else:
        cache = source.parent / f"{order.backend}.timing"
        built = build_plan(order.backend, graph, profile, timing_cache=cache, progress=progress)
        plan.write_bytes(built.plan)
        profile = built.profile
    return CompiledPart(source_sha256=part.sha256, plan_sha256=sha256_of(plan), profile=profile)


def _graph(
    source: Path,
    part: Part,
    order: CompileOrder,
    calibration: Tiles,
    progress: BuildProgress,
) -> bytes:
    """Serialise the part's graph in the order's precision, as its back end accepts it."""
    step = f"{source.stem} to {order.precision}"
    progress(step, 0, 1)
    if order.backend == "openvino" and order.precision != "int8":
        # It casts by itself, and keeps in fp32 what bf16 would harm.
        graph = read_graph(source, part.sha256)
        progress(step, 1, 1)
        return graph
    model = for_tensorrt(onnx.load_model_from_string(read_graph(source, part.sha256)))
    try:
        if order.precision == "int8":
            model = quantized(model, calibration)
        elif order.precision != "fp32":
            model = cast_to_precision(model, order.precision)
    except UnknownOperatorError as error:
        raise EngineError(f"{source} cannot be converted to {order.precision}: {error}") from error
    progress(step, 1, 1)
    return bytes(model.SerializeToString())


def _verified(
    files: PlanFiles,
    sidecar: Sidecar,
    platform: Platform,
    check: Tiles,
    progress: BuildProgress,
) -> Compiled:
    """Compare the plan with fp32 if there is a device for it, then write its sidecar.

    On the CPU it is compared in the way in which it will run.
    """
    if platform.device is None:
        write_sidecar(files, sidecar)
        return Compiled(files, sidecar)
    options = EngineOptions(
        precision=files.precision,
        segmenter_batch=sidecar.segmenter.profile.most,
        classifier_batch=sidecar.classifiers.profile.most,
    )
    reference = reference_findings(files.bundle, check)
    if files.backend in ON_CPU:
        ways = measure_ways(files, sidecar, check, processor=platform.device, progress=progress)
        sidecar = sidecar.model_copy(update={"ways": ways})
    engine = engine_of(files, sidecar, options)
    try:
        parity = measure_parity(files.bundle, reference, engine, check, verified_on=platform.device)
    finally:
        engine.close()
    if reason := parity.refusal(files.bundle.manifest.tolerance):
        raise PlanError(f"The plan {files.backend}-{files.precision} is refused. {reason}")
    sidecar = sidecar.model_copy(update={"parity": parity})
    write_sidecar(files, sidecar)
    return Compiled(files, sidecar)
