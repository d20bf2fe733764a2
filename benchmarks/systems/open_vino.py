"""OpenVINO, told to care for latency, and to compute in float32, for on CPUs that have bfloat16 it would take that."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from systems.loaded import MODEL, Loaded, sample_image

PACKAGE = "openvino"
SETTINGS = ("",)


def environment(threads: int, folder: Path) -> dict[str, str]:
    return {}


def load(folder: Path, threads: int, setting: str) -> Loaded:
    import openvino

    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(folder / MODEL), "CPU", hints).create_infer_request()
    image = openvino.Tensor(sample_image(folder), shared_memory=True)
    request.set_input_tensor(image)
    output = request.get_output_tensor()

    def run() -> object:
        request.infer(share_outputs=True)
        return image  # whose memory the request reads and does not own

    return Loaded(run, lambda: np.array(output.data, np.float32))
