"""ONNX Runtime, with all graph optimisations; input and output are bound, so that neither is copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from systems.loaded import MODEL, Loaded, sample_image

PACKAGE = "onnxruntime"
SETTINGS = ("",)


def environment(threads: int, folder: Path) -> dict[str, str]:
    return {"ORT_DISABLE_TELEMETRY": "1"}


def load(folder: Path, threads: int, setting: str) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / MODEL), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    image = onnxruntime.OrtValue.ortvalue_from_numpy(sample_image(folder))
    binding.bind_ortvalue_input(session.get_inputs()[0].name, image)
    binding.bind_output(session.get_outputs()[0].name, "cpu")
    return Loaded(
        lambda: session.run_with_iobinding(binding), lambda: np.asarray(binding.copy_outputs_to_cpu()[0], np.float32)
    )
