"""Open a compiled plan as an engine on this machine's GPU."""

from pathlib import Path

from her2d.inference.cuda.engine import Batches, CudaEngine
from her2d.inference.cuda.pycuda_device import PyCudaDevice
from her2d.inference.cuda.tensorrt_network import TensorRtNetwork
from her2d.inference.engine import CLASSIFIERS_OUTPUTS, SEGMENTER_OUTPUTS
from her2d.inference.graph_files import read_graph
from her2d.inference.options import EngineOptions, recorded_name
from her2d.inference.plans import CompiledPart, PlanFiles, Sidecar


def open_cuda_engine(files: PlanFiles, sidecar: Sidecar, options: EngineOptions) -> CudaEngine:
    """Load both networks' plans with TensorRT on the first CUDA device.

    Args:
        files: the plan's files.
        sidecar: what the plan was built for.
        options: batches and kept tiles; the precision is the plan's.

    Raises:
        EngineError: there is no device or no library, TensorRT refuses a plan, or a plan was built
            for other batches than its sidecar states.
    """
    device = PyCudaDevice()
    try:
        with device.current():
            segmenter, classifiers = _load(device, files, sidecar)
    except BaseException:
        device.close()
        raise
    batches = Batches(
        options.segmenter_batch,
        options.classifier_batch,
        # Those that wait in the queue, those that are being classified, and those that the
        # segmenter has just found.
        options.kept_tiles + options.classifier_batch + options.segmenter_batch,
    )
    name = recorded_name(files.backend, files.precision)
    return CudaEngine(device, segmenter, classifiers, batches, backend=name)


def _load(
    device: PyCudaDevice, files: PlanFiles, sidecar: Sidecar
) -> tuple[TensorRtNetwork, TensorRtNetwork]:
    """Load segmenter and classifiers; where the second fails, the first is closed."""
    segmenter = _network(device, files, files.segmenter, sidecar.segmenter, SEGMENTER_OUTPUTS)
    try:
        classifiers = _network(
            device, files, files.classifiers, sidecar.classifiers, CLASSIFIERS_OUTPUTS
        )
    except BaseException:
        segmenter.close()
        raise
    return segmenter, classifiers


def _network(
    device: PyCudaDevice,
    files: PlanFiles,
    plan: Path,
    part: CompiledPart,
    outputs: tuple[str, ...],
) -> TensorRtNetwork:
    content = read_graph(plan, part.plan_sha256)
    return TensorRtNetwork(device, files.backend, plan, content, outputs, part.profile)
