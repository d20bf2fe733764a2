"""Where all listen that are not to be reached from other machines."""

from __future__ import annotations

LOOPBACK = "127.0.0.1"
