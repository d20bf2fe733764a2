"""The systems that are compared, each as one module: how a subnet is loaded for it, in its best setting for latency.

A module has ``PACKAGE``, what is to be installed; ``SETTINGS``, of which the fastest is taken; ``environment(threads,
folder)``, variables that are read once, when its process starts; and ``load(folder, threads, setting)``.
"""

from __future__ import annotations

TITLES = {
    "ours": "ours",
    "onnx_runtime": "ONNX Runtime",
    "open_vino": "OpenVINO",
    "execu_torch": "ExecuTorch",
    "torch_compile": "torch.compile",
}
"""By the names of the modules; in this order they take turns."""

OURS = "ours"
PEERS = tuple(name for name in TITLES if name != OURS)
