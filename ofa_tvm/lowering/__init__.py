"""From a subnet to a Relax graph: PyTorch → ONNX → TVM Relax, with a numerical check at each step."""
