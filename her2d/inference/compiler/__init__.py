"""ONNX -> plan: precision, build and the gate a plan passes before it serves. Needs `onnx`."""

from her2d.inference.compiler.compile import (
    Compiled,
    CompileOrder,
    TilesToTry,
    compile_bundle,
    platform_for,
)

__all__ = ["CompileOrder", "Compiled", "TilesToTry", "compile_bundle", "platform_for"]
