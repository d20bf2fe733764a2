"""Which instructions a kernel's code has, and where its inner loops are.

Reads what LLVM writes for 64-bit Arm with Neon and, in AT&T's syntax, for x86-64 with fused multiply-add.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BRANCH = re.compile(r"(?:b|b\.\w+|cbn?z|tbn?z|j[a-z]+)\t(?:.*,\s*)?(\S+)$")
_STACK = re.compile(r"\[sp\b|\(%rsp")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Instructions one behind the other: straight code, or a loop from its first one to the branch back to it.

    Attributes
    ----------
    instructions
        As the assembler takes them: the mnemonic, a tab, the operands.
    """

    instructions: tuple[str, ...]

    @property
    def multiply_adds(self) -> int:
        """Fused multiply-adds of vectors, whatever their width."""
        return sum(map(_is_multiply_add, self.instructions))

    @property
    def loads(self) -> int:
        """Registers filled from memory, and operands read from there."""
        return sum(map(_loads, self.instructions))

    @property
    def stores(self) -> int:
        """Registers written to memory."""
        return sum(map(_stores, self.instructions))

    @property
    def spills(self) -> int:
        """Accesses to the stack: there were not enough registers."""
        return sum(_STACK.search(text) is not None for text in self.instructions)

    @property
    def prefetches(self) -> int:
        """Cache lines asked for ahead of their use."""
        return sum(map(_is_prefetch, self.instructions))

    @property
    def others(self) -> int:
        """Instructions that neither compute the sums nor access memory: addresses, counters, copies, branches."""
        return sum(
            not (_is_multiply_add(text) or _is_prefetch(text) or _loads(text) or _stores(text))
            for text in self.instructions
        )


def hottest_loop(assembly: str) -> Stretch:
    """Of the innermost loops the one with the most multiply-adds; of equals the shortest.

    Raises
    ------
    ValueError
        There is no loop.
    """
    return max(innermost_loops(assembly), key=lambda loop: (loop.multiply_adds, -len(loop.instructions)))


def innermost_loops(assembly: str) -> list[Stretch]:
    """The loops with no other one inside, in the order of the text."""
    lines = list(_code(assembly))
    labels = {line[:-1]: number for number, line in enumerate(lines) if line.endswith(":")}
    spans = []
    for number, line in enumerate(lines):
        branch = _BRANCH.match(line)
        start = labels.get(branch[1], number) if branch else number
        if start < number:
            spans.append((start, number))
    inner = [(a, b) for a, b in spans if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in spans)]
    return [Stretch(tuple(line for line in lines[a : b + 1] if not line.endswith(":"))) for a, b in inner]


def _code(assembly: str) -> Iterator[str]:
    """Labels and instructions, without directives and comments."""
    for line in assembly.splitlines():
        text = line.split("//")[0].strip()
        if text.endswith(":") or (text and not text.startswith((".", "#"))):
            yield text


def _is_multiply_add(text: str) -> bool:
    return re.match(r"fmla\t|vfmadd\w+p[sd]\t", text) is not None


def _is_prefetch(text: str) -> bool:
    return text.startswith(("prf", "prefetch"))


def _loads(text: str) -> int:
    mnemonic = text.split("\t")[0]
    if re.match(r"ldn?p$", mnemonic):
        return 2
    if re.match(r"ld(?:u?r\w*|1r?)$", mnemonic):
        return max(1, text.count(".4s") + text.count(".2d"))
    # x86: any instruction reads memory whose first operands name an address; the last one is the destination.
    operands = re.sub(r"\([^)]*\)", "()", text).split(",")
    return int(not mnemonic.startswith(("lea", "j", "prefetch")) and "()" in "".join(operands[:-1]))


def _stores(text: str) -> int:
    mnemonic = text.split("\t")[0]
    if re.match(r"stn?p$", mnemonic):
        return 2
    if re.match(r"st(?:u?r\w*|1)$", mnemonic):
        return 1
    return int(mnemonic.startswith(("mov", "vmov")) and text.endswith(")"))
