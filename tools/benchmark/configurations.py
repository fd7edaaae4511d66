"""All configurations in which this package can run a bundle, and how to open one."""

from dataclasses import dataclass

from her2d.bundle.loading import Bundle
from her2d.inference.backends import candidate
from her2d.inference.engine import Engine, EngineError
from her2d.inference.options import BackendName, EngineOptions, Precision
from her2d.inference.plan_engine import usable_plan
from her2d.inference.plans import PlanFiles, Sidecar
from her2d.inference.selection import open_engine
from her2d.pipeline.rules import Limits
from her2d.system.extras import installing
from tools.benchmark.report import DeviceKind


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run a bundle.

    Attributes:
        name: in tables.
        backend, device: what runs it.
        precision: None is that of the plan that the daemon would use.
        graphs: whether torch replays full batches as CUDA graphs.
    """

    name: str
    backend: BackendName
    device: DeviceKind
    precision: Precision | None = None
    graphs: bool = True


CONFIGURATIONS = (
    Configuration("tensorrt", "tensorrt", "cuda"),
    Configuration("tensorrt_rtx", "tensorrt_rtx", "cuda"),
    Configuration("torch cuda fp16, CUDA graphs", "torch", "cuda", "fp16"),
    Configuration("torch cuda fp32, eager", "torch", "cuda", "fp32", graphs=False),
    Configuration("onnxruntime fp32", "onnxruntime", "cpu", "fp32"),
    Configuration("onnxruntime int8", "onnxruntime", "cpu", "int8"),
    Configuration("openvino bf16", "openvino", "cpu", "bf16"),
    Configuration("openvino fp32", "openvino", "cpu", "fp32"),
    Configuration("torch cpu fp32", "torch", "cpu", "fp32"),
)


def opened(configuration: Configuration, bundle: Bundle, limits: Limits, threads: int) -> Engine:
    """Open a configuration's engine for the pipeline's batches.

    Args:
        configuration: what to open.
        bundle: what it runs.
        limits: the pipeline's batches and queue.
        threads: number of threads on the CPU; 0 is one for each core.

    Raises:
        EngineError: it cannot run here; the message gives the reason.
    """
    options = EngineOptions(
        precision=configuration.precision,
        threads=threads,
        segmenter_batch=limits.segmenter_batch,
        classifier_batch=limits.classifier_batch,
        kept_tiles=limits.queue_tiles,
        cuda_graphs=configuration.graphs,
    )
    if configuration.backend == "torch" and configuration.device == "cpu":
        return _torch_on_cpu(bundle, options)
    found = candidate(configuration.backend, bundle, options)
    if not found.usable:
        raise EngineError(found.reason)
    if configuration.device == "cuda" and configuration.backend != "torch":
        plan = usable_plan(bundle, configuration.backend, configuration.precision)
        refuse_small_plan(plan.files, plan.sidecar, limits.segmenter_batch)
    return open_engine(bundle, backend=configuration.backend, options=options)


def _torch_on_cpu(bundle: Bundle, options: EngineOptions) -> Engine:
    try:
        from her2d.inference.torch_engine import TorchEngine
    except ImportError as error:
        raise EngineError(
            f"{error.name} is not installed; install it with: {installing('torch')}"
        ) from error
    return TorchEngine(bundle, options, device="cpu")


def refuse_small_plan(files: PlanFiles, sidecar: Sidecar, batch: int) -> None:
    """Raise EngineError if a plan would run `batch` tiles in parts, which would not measure it."""
    most = min(sidecar.segmenter.profile.most, sidecar.classifiers.profile.most)
    if most < batch:
        raise EngineError(
            f"Its plan accepts {most} tiles at once. Compile a larger one:"
            f" HER2D_PIPELINE__SEGMENTER_BATCH={batch}"
            f" HER2D_PIPELINE__CLASSIFIER_BATCH={batch} {files.command}"
        )
