"""What holds for every test."""

from __future__ import annotations

import os
import signal

# As the commands do: ONNX Runtime is to send nothing to its maker, from tests neither.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A background job or nohup ignores these signals, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
