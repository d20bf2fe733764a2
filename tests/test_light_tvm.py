from __future__ import annotations

import sys
import threading

from ofa_tvm.light_tvm import torch_absent


def test_torch_stays_out_until_each_first_load_has_ended(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    first_has_ended, found = threading.Event(), []

    def second():
        with torch_absent():
            first_has_ended.wait(10)
            found.append(sys.modules.get("torch", "free to import"))

    with torch_absent():
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)  # let it come in, if it can
    first_has_ended.set()
    other.join(10)
    assert found == [None]
    assert "torch" not in sys.modules
