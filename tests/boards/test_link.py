from __future__ import annotations

import subprocess
import sys

from .conftest import LIMIT_S, ROOT


def test_a_link_is_light():
    """Each board has one for as long as it is used, and waits for it at first."""
    look = "import sys, ofa_tvm.boards.link; assert not {'tvm', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=True, timeout=LIMIT_S)
