"""A device behind TVM RPC that survives what happens to its sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from typing_extensions import override

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError
from ofa_tvm.measurement.device import Device, Float32Array
from ofa_tvm.measurement.job import Job, SubnetJob
from ofa_tvm.measurement.rpc_session import RpcSession
from ofa_tvm.measurement.tracker import TrackerAddress, request_device
from ofa_tvm.targets import MeasurementProtocol, Target

Result = TypeVar("Result")

FREE_LIMIT_S = 10.0
OPEN_ATTEMPTS = 2


class RpcDevice(Device):
    """The device with the target's key at a tracker.

    Parameters
    ----------
    name
        Of the device, for records.
    find_tracker
        Called before each new session, because a tracker and a server that have died may be started again then.
    """

    def __init__(self, target: Target, name: str, find_tracker: Callable[[], TrackerAddress]) -> None:
        self._target = target
        self._name = name
        self._find_tracker = find_tracker
        self._tracker = find_tracker()
        self._session: RpcSession | None = None

    @property
    @override
    def name(self) -> str:
        return self._name

    @property
    @override
    def emulated(self) -> bool:
        return self._target.emulated

    @override
    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        return self._attempt(job, lambda session: session.time(job, protocol))

    @override
    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        timeout_s = self._target.measurement.timeout_s
        return self._attempt(job, lambda session: session.run(job, inputs, timeout_s))

    def open(self) -> None:
        """Open a session now rather than at the first job, to see whether the device is there.

        Raises
        ------
        DeviceError
            It is not, or it did not answer at two attempts.
        """
        self._current_session()

    def close(self) -> None:
        """End the session, if there is one; the next job opens another."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _attempt(self, job: Job, action: Callable[[RpcSession], Result]) -> Result:
        """Do it in the current session or a new one; a session in which anything failed is not used again."""
        session = self._current_session()
        try:
            return action(session)
        except Exception as error:  # TVM turns a failure on the device into whatever type has the name it was sent
            reason = one_line(error)
        except BaseException:
            self.close()
            raise
        self.close()
        raise MeasurementError(f"{job.label} failed on {self.name}: {reason}")

    def _current_session(self) -> RpcSession:
        if self._session is None:
            self._session = self._open_session(attempts=OPEN_ATTEMPTS)
        return self._session

    def _open_session(self, attempts: int) -> RpcSession:
        """An offer may expire before it is taken up, so one failure says nothing yet."""
        self._tracker = self._find_tracker()
        offer = request_device(self._tracker, self._target.device.key, FREE_LIMIT_S)
        try:
            return RpcSession(offer)
        except Exception as error:  # as above
            reason = one_line(error)
        if attempts > 1:
            return self._open_session(attempts - 1)
        raise DeviceUnavailableError(
            f"{self.name} does not answer at {offer.host}:{offer.port} ({reason}); start its rpc/server.py again"
        )


def one_line(error: Exception) -> str:
    """The line of TVM's error that says what happened, without its stack traces."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Traceback", "File ", "Stack trace", "[bt]"))]
    return told[-1] if told else type(error).__name__
