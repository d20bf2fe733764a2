"""What holds for every test."""

from __future__ import annotations

import os

# As the commands do: ONNX Runtime is to send nothing to its maker, from tests neither.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
