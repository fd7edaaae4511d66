"""The networks of HER2Net and their ONNX export; needs torch."""
