"""Rewrite a bundle's graph for ONNX Runtime on the CPU: the same results, sooner."""
