"""What a file's schema has to complain of, as one line."""

from __future__ import annotations

from pydantic import ValidationError

from ofa_tvm.printable import printable


def first_fault(error: ValidationError) -> str:
    """The first thing wrong: ``key.inner: what, not value``; the key is left out where the whole file is meant."""
    first = error.errors()[0]
    where = printable(".".join(str(part) for part in first["loc"]))  # an unknown key is a foreign text
    message = first["msg"].removeprefix("Value error, ")
    plain = isinstance(first["input"], str | int | float | bool) and first["type"] not in ("missing", "value_error")
    value = f", not {first['input']!r}" if plain else ""
    return f"{where}: {message}{value}" if where else f"{message}{value}"
