"""Search spaces by name, and what a user may say of a space on the command line."""

from __future__ import annotations

from ofa_tvm.errors import UsageError
from ofa_tvm.names import nearest
from ofa_tvm.space.search_space import SearchSpace

_IMAGENET_CLASSES = 1000
_IMAGENET_RESOLUTIONS = tuple(range(128, 225, 4))

NAMED_SPACES = {
    f"mobilenet_v3_w{width}": SearchSpace(width, _IMAGENET_CLASSES, _IMAGENET_RESOLUTIONS) for width in (1.0, 1.2)
}
"""The spaces of the published Once-for-All supernets."""


def named_space(name: str) -> SearchSpace:
    """The space of this name.

    Raises
    ------
    UsageError
        There is none; the message has the nearest known name.
    """
    if name not in NAMED_SPACES:
        hint = nearest(name, NAMED_SPACES) or ";"
        raise UsageError(f"no search space {name!r}{hint} known spaces: {', '.join(NAMED_SPACES)}")
    return NAMED_SPACES[name]


def chosen_resolutions(text: str | None, space: SearchSpace) -> tuple[int, ...]:
    """The resolutions of ``--resolutions``, such as ``"160,224"``; all of the space's if it was not given.

    Raises
    ------
    UsageError
        They are no numbers, or not of the space.
    """
    if text is None:
        return space.resolutions
    offered = ", ".join(map(str, space.resolutions))
    try:
        chosen = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UsageError(f"--resolutions {text!r}: give numbers with commas between; there are {offered}") from None
    if unknown := set(chosen) - set(space.resolutions):
        raise UsageError(f"--resolutions: {min(unknown)} is not in this space; there are {offered}")
    return chosen
