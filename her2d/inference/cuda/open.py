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
    networks: list[TensorRtNetwork] = []
    try:
        with device.current():
            for plan, outputs, part in (
                (files.segmenter, SEGMENTER_OUTPUTS, sidecar.segmenter),
                (files.classifiers, CLASSIFIERS_OUTPUTS, sidecar.classifiers),
            ):
                networks.append(TensorRtNetwork(device, files.backend, plan, outputs, part.profile))
    except BaseException:
        for network in networks:
            network.close()
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
    return CudaEngine(device, networks[0], networks[1], batches, backend=name)
