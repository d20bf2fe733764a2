"""What decides the latencies of a target: its name is a label, and stays when the file behind it is edited."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TargetIdentity:
    """A target as its records know it.

    Attributes
    ----------
    name
        The target's.
    settings
        What decides the code and the measuring, by the keys of target files, as plain JSON values. What is at its
        default is left out: a setting that comes with a later version doesn't make other records of these.
    """

    name: str
    settings: Settings = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of the settings, for names of files."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def differences(self, settings: Settings | None) -> str:
        """How earlier settings differ from these: ``threads: 2 -> default``; None are those of a version without."""
        if settings is None:
            return "not noted by an earlier version"
        keys = [key for key in {**settings, **self.settings} if settings.get(key) != self.settings.get(key)]
        return ", ".join(f"{key}: {_shown(settings.get(key))} -> {_shown(self.settings.get(key))}" for key in keys)

    def left_aside(self, others: Sequence[Settings | None], path: Path) -> str | None:
        """The line that says which records of a file don't count, by their settings; None without any."""
        if not others:
            return None
        reasons = Counter(map(self.differences, others))
        listed = "; ".join(reasons if len(reasons) == 1 else (f"{n} {reason}" for reason, n in reasons.items()))
        counted = "1 record" if len(others) == 1 else f"{len(others)} records"
        return f"{counted} of {self.name}, measured with other settings ({listed}), left aside: {path}"


def _shown(value: Any) -> str:
    if value is None:
        return "default"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
