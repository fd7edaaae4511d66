"""Open a compiled plan as an engine, after checking that it fits and equals fp32 closely."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from her2d.bundle.loading import Bundle
from her2d.inference.engine import (
    CLASSIFIERS_OUTPUTS,
    SEGMENTER_OUTPUTS,
    DeviceLostError,
    Engine,
    EngineError,
    Tiles,
)
from her2d.inference.graph_files import loading_graph, read_graph
from her2d.inference.host_tiles import HostEngine, HostNetwork, p_strong_of
from her2d.inference.openvino_engine import OpenVinoNetwork, precision_problem
from her2d.inference.options import (
    ON_CPU,
    BackendName,
    BatchSizes,
    EngineOptions,
    Precision,
    recorded_name,
)
from her2d.inference.parity import measure_parity, reference_findings
from her2d.inference.plans import (
    Parity,
    PlanError,
    PlanFiles,
    Platform,
    Sidecar,
    loadable_plan,
    read_sidecar,
    write_sidecar,
)
from her2d.inference.platforms import library_of, platform_of
from her2d.inference.separate_folds import SeparateFolds, open_separately
from her2d.inference.ways import Way
from her2d.system.cpus import usable_cpus
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_Made = TypeVar("_Made")

# The fastest first. int8 is used only if it is requested by name.
_BY_DEFAULT: dict[BackendName, tuple[Precision, ...]] = {
    "tensorrt": ("fp16", "bf16", "fp32"),
    "tensorrt_rtx": ("fp16", "bf16", "fp32"),
    "openvino": ("bf16", "fp32"),
}


def compiled_plans(
    bundle: Bundle, backend: BackendName, precision: Precision | None
) -> tuple[PlanFiles, ...]:
    """Find the plans that were compiled and may be used, the fastest first.

    Args:
        bundle: the plans are in its folder.
        backend: what they were compiled for.
        precision: None is every precision except int8.
    """
    wanted = _BY_DEFAULT.get(backend, ()) if precision is None else (precision,)
    found = (PlanFiles(bundle, backend, each) for each in wanted)
    return tuple(files for files in found if files.sidecar.is_file())


def open_plan(bundle: Bundle, backend: BackendName, options: EngineOptions) -> Engine:
    """Open a compiled plan; the first time on a device it is compared with fp32 before.

    If no precision is named, it is the fastest plan that can be opened. Those that were refused
    before are logged.

    Raises:
        PlanError: there is no plan, it does not fit, or it differs too much from fp32.
        DeviceLostError: the device is lost to this process.
        EngineError: the library or the device refuses it.
    """
    platform, plans = _platform_and_plans(bundle, backend, options.precision)

    def opened(files: PlanFiles) -> Engine:
        plan = _usable(files, platform)
        if plan.device is None or plan.sidecar.verified_on == plan.device:
            return engine_of(plan.files, plan.sidecar, options)
        return _verified(plan.files, plan.sidecar, options, plan.device)

    engine, refused = _first_that_works(plans, opened)
    for files, error in refused:
        log.warning(
            "plan_not_used",
            plan=f"{files.backend}-{files.precision}",
            backend=engine.backend,
            reason=str(error),
        )
    return engine


@dataclass(frozen=True, slots=True)
class UsablePlan:
    """A plan that may be loaded, and what would run it: see `Platform.device`."""

    files: PlanFiles
    sidecar: Sidecar
    device: str | None


def usable_plan(bundle: Bundle, backend: BackendName, precision: Precision | None) -> UsablePlan:
    """Find the plan that would be used and check, without opening it, that it may be loaded here.

    Args:
        bundle: the plan is in its folder.
        backend: what the plan was compiled for.
        precision: None is the fastest plan that may be loaded, except int8.

    Raises:
        PlanError: there is no plan that can be used. The error says why each one cannot.
        EngineError: the library is not installed, or may not be used.
    """
    platform, plans = _platform_and_plans(bundle, backend, precision)
    plan, _ = _first_that_works(plans, lambda files: _usable(files, platform))
    return plan


def _platform_and_plans(
    bundle: Bundle, backend: BackendName, precision: Precision | None
) -> tuple[Platform, tuple[PlanFiles, ...]]:
    """Return what would load a plan, and the compiled plans, of which there is at least one."""
    plans = compiled_plans(bundle, backend, precision)
    if not plans:
        fastest = PlanFiles(bundle, backend, precision or _BY_DEFAULT[backend][0])
        read_sidecar(fastest)
        raise PlanError(f"The plan's {fastest.sidecar} is not a file.")
    return platform_of(backend), plans


def _usable(files: PlanFiles, platform: Platform) -> UsablePlan:
    sidecar = loadable_plan(files, platform)
    if files.backend == "openvino":
        problem = precision_problem(library_of(files.backend), files.precision)
        if problem is not None:
            raise PlanError(f"The plan {files.backend}-{files.precision} is refused. {problem}")
    return UsablePlan(files, sidecar, platform.device)


def _first_that_works(
    plans: tuple[PlanFiles, ...], attempt: Callable[[PlanFiles], _Made]
) -> tuple[_Made, list[tuple[PlanFiles, EngineError]]]:
    """Return what `attempt` makes of the first plan that it accepts, and why not of those before.

    Raises:
        DeviceLostError: of `attempt`; another plan would not find the device either.
        EngineError: of `attempt`, if there is one plan.
        PlanError: it accepts none of several; the reason of each.
    """
    refused: list[tuple[PlanFiles, EngineError]] = []
    for files in plans:
        try:
            return attempt(files), refused
        except DeviceLostError:
            raise
        except EngineError as error:
            refused.append((files, error))
    if len(refused) == 1:
        raise refused[0][1]
    raise PlanError(" ".join(dict.fromkeys(str(error) for _, error in refused)))


def engine_of(files: PlanFiles, sidecar: Sidecar, options: EngineOptions) -> Engine:
    """Open the engine of a plan that its sidecar describes, unchecked. Raises EngineError."""
    if files.backend in ON_CPU:
        return _host_engine(files, sidecar, options)
    from her2d.inference.cuda.open import open_cuda_engine

    return open_cuda_engine(files, sidecar, options)


def _host_engine(files: PlanFiles, sidecar: Sidecar, options: EngineOptions) -> Engine:
    threads = options.threads or usable_cpus()
    segmenter, classifiers = sidecar.ways_on(platform_of(files.backend).device, threads)
    segmenting = host_segmenter(files, sidecar, segmenter)
    joined = host_classifiers(files, sidecar, classifiers)
    return HostEngine(
        segmenting,
        joined,
        recorded_name(files.backend, files.precision),
        threads,
        BatchSizes(segmenter.batch, classifiers.batch),
        _folds(files, sidecar, joined, classifiers) if options.separate_folds else None,
    )


def host_segmenter(files: PlanFiles, sidecar: Sidecar, way: Way) -> HostNetwork:
    """Open a plan's segmenter on the CPU, to run in some way. Raises EngineError."""
    with loading_graph(files.segmenter, sidecar.segmenter.plan_sha256) as graph:
        return _host_network(files, files.segmenter, graph, SEGMENTER_OUTPUTS, way)


def host_classifiers(files: PlanFiles, sidecar: Sidecar, way: Way) -> HostNetwork:
    """Open a plan's classifiers on the CPU, to run in some way. Raises EngineError."""
    with loading_graph(files.classifiers, sidecar.classifiers.plan_sha256) as graph:
        return _host_network(files, files.classifiers, graph, CLASSIFIERS_OUTPUTS, way)


def _folds(
    files: PlanFiles, sidecar: Sidecar, joined: HostNetwork, way: Way
) -> SeparateFolds[HostNetwork]:
    if files.backend == "openvino" and files.precision != "fp32":
        # It fuses other steps then, and rounds to bf16 elsewhere.
        return SeparateFolds(
            problem=f"In {files.precision}, OpenVINO does not compute exactly the same one at a"
            " time as all at once."
        )

    def opened(graph: bytes) -> HostNetwork:
        return _host_network(files, files.classifiers, graph, CLASSIFIERS_OUTPUTS, way)

    content = read_graph(files.classifiers, sidecar.classifiers.plan_sha256)
    return open_separately(content, joined, opened, p_strong_of)


def _host_network(
    files: PlanFiles, path: Path, graph: str | bytes, outputs: tuple[str, ...], way: Way
) -> HostNetwork:
    if files.backend == "openvino":
        return OpenVinoNetwork(path, graph, outputs, way, files.precision)
    from her2d.inference.onnxruntime_engine import OnnxRuntimeNetwork

    return OnnxRuntimeNetwork(path, graph, outputs, way)


def _verified(files: PlanFiles, sidecar: Sidecar, options: EngineOptions, device: str) -> Engine:
    """Open a plan's engine that was never compared with fp32 on this device, and compare it."""
    log.info("plan_verifying", plan=f"{files.backend}-{files.precision}", device=device)
    tiles = _check_tiles(files)
    reference = reference_findings(files.bundle, tiles, threads=options.threads)
    engine = engine_of(files, sidecar, options)
    try:
        parity = measure_parity(files.bundle, reference, engine, tiles, verified_on=device)
        log.info("plan_verified", **parity.model_dump())
        _accept(files, sidecar, parity)
    except BaseException:
        engine.close()
        raise
    return engine


def _accept(files: PlanFiles, sidecar: Sidecar, parity: Parity) -> None:
    """Write the comparison to the plan's sidecar, so that it is not made again at each start.

    Raises:
        PlanError: the plan differs too much.
    """
    try:
        write_sidecar(files, sidecar.model_copy(update={"parity": parity}))
    except OSError as error:
        # The service may lack permission to write there; then the next start checks again.
        log.warning("plan_verification_not_saved", reason=str(error))
    if reason := parity.refusal(files.bundle.manifest.tolerance):
        raise PlanError(f"The plan {files.backend}-{files.precision} is refused. {reason}")


def _check_tiles(files: PlanFiles) -> Tiles:
    try:
        with np.load(files.check_tiles, allow_pickle=False) as stored:
            tiles: Tiles = stored["tiles"]
            return tiles
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PlanError(
            f"The plan's {files.check_tiles} cannot be read: {error}."
            f" Compile the plan again: {files.command}."
        ) from error
