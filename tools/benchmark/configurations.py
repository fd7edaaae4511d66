"""Every way this package can run a bundle, opened for one batch size or refused with the reason."""

from dataclasses import dataclass

from her2d.bundle.loading import Bundle
from her2d.inference.backends import candidate
from her2d.inference.engine import Engine, EngineError
from her2d.inference.options import BackendName, EngineOptions, Precision
from her2d.inference.plan_engine import plan_for
from her2d.inference.plans import read_sidecar
from her2d.inference.selection import open_engine
from her2d.pipeline.rules import Limits
from tools.benchmark.report import DeviceKind


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run a bundle.

    Attributes:
        precision: None is the plan that would serve.
        graphs: whether full batches of torch are replayed as CUDA graphs.
    """

    name: str
    backend: BackendName
    device: DeviceKind
    precision: Precision | None = None
    graphs: bool = True


CONTENDERS = (
    Contender("tensorrt", "tensorrt", "cuda"),
    Contender("tensorrt_rtx", "tensorrt_rtx", "cuda"),
    Contender("torch cuda fp16, CUDA graphs", "torch", "cuda", "fp16"),
    Contender("torch cuda fp32, eager", "torch", "cuda", "fp32", graphs=False),
    Contender("onnxruntime fp32", "onnxruntime", "cpu", "fp32"),
    Contender("onnxruntime int8", "onnxruntime", "cpu", "int8"),
    Contender("torch cpu fp32", "torch", "cpu", "fp32"),
)


def opened(contender: Contender, bundle: Bundle, limits: Limits, threads: int) -> Engine:
    """The contender's engine for the pipeline's batches.

    Raises:
        EngineError: it cannot run here; the sentence says why.
    """
    options = EngineOptions(
        precision=contender.precision,
        threads=threads,
        segmenter_batch=limits.segmenter_batch,
        classifier_batch=limits.classifier_batch,
        kept_tiles=limits.queue_tiles,
        cuda_graphs=contender.graphs,
    )
    if contender.backend == "torch" and contender.device == "cpu":
        return _torch_on_cpu(bundle, options)
    found = candidate(contender.backend, bundle, options)
    if not found.usable:
        raise EngineError(found.reason)
    if contender.device == "cuda" and contender.backend != "torch":
        refuse_small_plan(bundle, contender, limits.segmenter_batch)
    return open_engine(bundle, backend=contender.backend, options=options)


def _torch_on_cpu(bundle: Bundle, options: EngineOptions) -> Engine:
    try:
        from her2d.inference.torch_engine import TorchEngine
    except ImportError as error:
        raise EngineError(f"{error.name} is not installed: pip install 'her2d[torch]'.") from error
    return TorchEngine(bundle, options, device="cpu")


def refuse_small_plan(bundle: Bundle, contender: Contender, batch: int) -> None:
    """Raise EngineError where a plan would run `batch` tiles in parts: no measurement of it."""
    files = plan_for(bundle, contender.backend, contender.precision)
    sidecar = read_sidecar(files)
    most = min(sidecar.segmenter.profile.most, sidecar.classifiers.profile.most)
    if most < batch:
        raise EngineError(
            f"Its plan takes {most} tiles at once. HER2D_PIPELINE__SEGMENTER_BATCH={batch}"
            f" HER2D_PIPELINE__CLASSIFIER_BATCH={batch} {files.command}"
        )
