"""What is done once, on any device of a farm; what fails on one is tried on another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ofa_tvm.errors import DeviceError, MeasurementError, NumericalMismatchError, StageError
from ofa_tvm.measurement.conduct import MAX_FAILURES
from ofa_tvm.measurement.crew import Crew
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.judgement import MAX_LOSSES
from ofa_tvm.measurement.member import Member
from ofa_tvm.measurement.task import Failure

Result = TypeVar("Result")


def try_twice(crew: Crew, action: Callable[[Device], Result], reopen: Callable[[], None]) -> Result:
    """Result of an action on a device; devices whose numbers are wrong where another's are right are set aside.

    Parameters
    ----------
    reopen
        Waits until a device is connected.

    Raises
    ------
    NumericalMismatchError
        The numbers of the only device are wrong, or those of two.
    MeasurementError
        The action failed twice, if possible on two devices.
    DeviceError
        There is no device any more.
    """
    failures: list[tuple[Member, StageError]] = []
    losses: list[DeviceError] = []
    while len(failures) < MAX_FAILURES and len(losses) < MAX_LOSSES:
        if not crew.connected:
            reopen()
        member = _any_member(crew, [failed for failed, _ in failures])
        if any(failed is member and isinstance(error, NumericalMismatchError) for failed, error in failures):
            break  # it would compute the same again
        device = member.connection.device
        if device is None:
            continue
        try:
            result = action(device)
        except StageError as error:
            failures.append((member, error))
        except DeviceError as error:
            losses.append(error)
            member.connection.drop()
        else:
            _set_aside_wrong(crew, failures)
            return result
    if not failures:
        raise losses[-1]
    told = "; then ".join(str(Failure(member.name, 0, str(error))) for member, error in failures)
    wrong = any(isinstance(error, NumericalMismatchError) for _, error in failures)
    raise NumericalMismatchError(told) if wrong else MeasurementError(told)


def _any_member(crew: Crew, failed: Sequence[Member]) -> Member:
    """Connected, and if possible one on which nothing failed."""
    return min(crew.connected, key=lambda member: (member in failed, member.conduct.on_trial))


def _set_aside_wrong(crew: Crew, failures: Sequence[tuple[Member, StageError]]) -> None:
    for member, error in failures:
        if isinstance(error, NumericalMismatchError):
            crew.set_aside(member, f"it computes wrong numbers: {error}")
