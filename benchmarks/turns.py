"""Systems that take turns on one subnet, so that what disturbs one disturbs the others too."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from peak import Peak
from system_process import SystemFailedError, SystemProcess

_CHOICE_SAMPLES = 7


@dataclass(frozen=True)
class Found:
    """What a system took.

    Attributes
    ----------
    median_ms, fastest_ms
        Of the samples.
    relative_error
        Of the output against PyTorch's.
    """

    setting: str
    median_ms: float
    fastest_ms: float
    relative_error: float


def race(
    settings: Mapping[str, str], folder: Path, threads: int, repeats: int, peak: Peak | None, say: Callable[[str], None]
) -> tuple[dict[str, Found], float]:
    """Medians by the name of the system, and the machine's peak in GFLOP/s; `settings` by the name, too.

    A system that fails is left out; `say` is told why.
    """
    found, gflops = take_turns([*settings.items()], folder, threads, repeats, peak, say)
    return {system: figures for (system, _), figures in found.items()}, gflops


def fastest_setting(
    system: str, settings: tuple[str, ...], folder: Path, threads: int, say: Callable[[str], None]
) -> str | None:
    """The setting in which a system is fastest on a subnet; None if it fails in all of them."""
    if len(settings) == 1:
        return settings[0]
    found, _ = take_turns([(system, setting) for setting in settings], folder, threads, _CHOICE_SAMPLES, None, say)
    return min(found.values(), key=lambda figures: figures.median_ms).setting if found else None


def take_turns(
    entrants: list[tuple[str, str]],
    folder: Path,
    threads: int,
    repeats: int,
    peak: Peak | None,
    say: Callable[[str], None],
) -> tuple[dict[tuple[str, str], Found], float]:
    """What each system took in each setting, and the peak in GFLOP/s; as `race`, with more than one setting of each."""
    with contextlib.ExitStack() as stack:
        processes: dict[tuple[str, str], SystemProcess] = {}
        for entrant in entrants:  # one after the other: some of them time things as they load
            try:
                processes[entrant] = stack.enter_context(SystemProcess(*entrant, folder, threads))
            except SystemFailedError as error:
                say(f"left out: {error}")
        samples_ms: dict[tuple[str, str], list[float]] = {entrant: [] for entrant in processes}
        gflops = [0.0]
        for _ in range(repeats):
            for entrant, process in [*processes.items()]:
                try:
                    samples_ms[entrant].append(process.sample_ms())
                except SystemFailedError as error:
                    say(f"left out: {error}")
                    del processes[entrant], samples_ms[entrant]
            if peak:
                gflops.append(peak.sample_gflops())
        errors = {entrant: process.relative_error for entrant, process in processes.items()}
    return {
        (system, setting): Found(setting, statistics.median(taken), min(taken), errors[system, setting])
        for (system, setting), taken in samples_ms.items()
    }, max(gflops)
