"""ONNX -> plan: precision, build, and the gate a plan passes before it serves. Needs `onnx`."""
