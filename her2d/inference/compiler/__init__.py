"""Compile ONNX graphs to plans: cast, build, and compare with fp32 before use. Needs `onnx`."""
