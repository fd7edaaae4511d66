"""A plan's files -> a running engine on this machine's GPU."""

from her2d.inference.cuda.engine import Batches, CudaEngine
from her2d.inference.cuda.pycuda_device import PyCudaDevice
from her2d.inference.cuda.tensorrt_network import TensorRtNetwork
from her2d.inference.engine import CLASSIFIERS_OUTPUTS, SEGMENTER_OUTPUTS
from her2d.inference.options import EngineOptions, recorded_name
from her2d.inference.plans import PlanFiles, Sidecar


def open_cuda_engine(files: PlanFiles, sidecar: Sidecar, options: EngineOptions) -> CudaEngine:
    """Load both plans by TensorRT on the first CUDA device.

    Raises:
        EngineError: no device, no library, or it refuses a plan; the plan was built for other
            batches than its sidecar says.
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
        # Beside those that wait in the queue, those that are being classified and those that the
        # segmenter has just found.
        options.kept_tiles + options.classifier_batch + options.segmenter_batch,
    )
    name = recorded_name(files.backend, files.precision)
    return CudaEngine(device, segmenter, classifiers, batches, backend=name)


def _load(
    device: PyCudaDevice, files: PlanFiles, sidecar: Sidecar
) -> tuple[TensorRtNetwork, TensorRtNetwork]:
    """Segmenter and classifiers, or neither."""
    backend = files.backend
    segmenter = TensorRtNetwork(
        device, backend, files.segmenter, SEGMENTER_OUTPUTS, sidecar.segmenter.profile
    )
    try:
        classifiers = TensorRtNetwork(
            device, backend, files.classifiers, CLASSIFIERS_OUTPUTS, sidecar.classifiers.profile
        )
    except BaseException:
        segmenter.close()
        raise
    return segmenter, classifiers
