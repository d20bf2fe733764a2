"""Names and texts that come from files and users: which are allowed, and what to say of those that are not known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from ofa_tvm.errors import UsageError


def _plain(name: str) -> str:
    if len(name) > 100 or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(
            f"{name!r} is no name: use at most 100 letters, digits, '_', '-', '.' and '+', the first a letter, "
            "a digit or '_'"
        )
    return name


PlainName = Annotated[str, AfterValidator(_plain)]
"""A name that becomes a folder's or a file's: one path component, whatever it says."""


def check_plain(name: str, what: str) -> None:
    """Make sure that a name is a `PlainName`; `what` says which name it is.

    Raises
    ------
    UsageError
        It is none.
    """
    try:
        _plain(name)
    except ValueError as error:
        raise UsageError(f"{what} {error}") from None


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!a} holds what a terminal would obey or not show")
    return text


def _class_name(name: str) -> str:
    if not name.strip():
        raise ValueError("a class name is empty")
    return _printable(name)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{name!r} names two classes")
        seen.add(name)
    return names


PrintableText = Annotated[str, AfterValidator(_printable)]
"""A text, maybe empty, that is safe to print: one line, without what a terminal obeys."""

ClassNames = Annotated[tuple[Annotated[str, AfterValidator(_class_name)], ...], AfterValidator(_distinct)]
"""Names of classes in the order of the logits: distinct, not empty, safe to print."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` for an error message, empty if no known word is near."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {matches[0]!r}?" if matches else ""
