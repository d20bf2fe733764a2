"""Texts of others, as a terminal may show them. Imports nothing that takes time, for a last line must not."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    r"""The text, with what a terminal would obey or not show written as Python writes it: ``\x1b``."""
    return "".join(char if _is_shown(char) else ascii(char)[1:-1] for char in text)


def _is_shown(char: str) -> bool:
    return char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs"
