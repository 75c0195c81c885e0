"""Models for other programs: half-precision snapshots, ONNX graphs and model cards."""
