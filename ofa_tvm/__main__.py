"""``python -m ofa_tvm``: all commands."""

from __future__ import annotations

from ofa_tvm.entry import main

if __name__ == "__main__":
    main()
