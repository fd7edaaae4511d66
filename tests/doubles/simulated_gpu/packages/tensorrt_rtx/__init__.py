"""TensorRT for RTX on the simulated GPU: like `tensorrt`, but contexts capture graphs."""

from types import SimpleNamespace

import tensorrt
from tensorrt import (
    Builder,
    BuilderFlag,
    Context,
    ExecutionContextAllocationStrategy,
    ILogger,
    IProgressMonitor,
    NetworkDefinitionCreationFlag,
    OnnxParser,
)

__all__ = [
    "Builder",
    "BuilderFlag",
    "CudaGraphStrategy",
    "ExecutionContextAllocationStrategy",
    "ILogger",
    "IProgressMonitor",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
]
__version__ = "1.7.1+simulated"

CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")


class Engine(tensorrt.Engine):
    def create_runtime_config(self) -> SimpleNamespace:
        return SimpleNamespace(cuda_graph_strategy="disabled")

    def create_execution_context(self, how: SimpleNamespace) -> Context | None:
        assert how.cuda_graph_strategy == CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        context = super().create_execution_context(ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is not None:
            # TensorRT for RTX allocates this memory itself.
            context.set_device_memory(0, 0)
        return context


class Runtime(tensorrt.Runtime):
    engine = Engine
