"""A device behind TVM RPC: one session, closed by the first failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from typing_extensions import override

from ofa_tvm.addresses import join_address
from ofa_tvm.errors import DeviceUnavailableError, MeasurementError
from ofa_tvm.measurement.deadline import NoAnswerError
from ofa_tvm.measurement.device import Device, check_shapes
from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, SubnetJob
from ofa_tvm.measurement.rpc_session import RpcSession, one_line
from ofa_tvm.measurement.tracker import SessionOffer
from ofa_tvm.measurement.warm_up import warm_up
from ofa_tvm.targets import EMULATED_SUFFIX, MeasurementProtocol, Target

Result = TypeVar("Result")


class RpcDevice(Device):
    """The device that an offer of the tracker names.

    Parameters
    ----------
    name_of
        The device's name, from what it says about itself; called when the name is first asked for.

    Raises
    ------
    DeviceUnavailableError
        It does not answer, or is emulated and the target is not.
    """

    def __init__(self, target: Target, offer: SessionOffer, name_of: Callable[[DeviceInfo | None], str]) -> None:
        self._target = target
        self._session: RpcSession | None = None
        try:
            self._session = RpcSession(offer, target.measurement.timeout_s)
        except Exception as error:  # TVM turns a failure on the device into whatever type has the name it was sent
            reason = one_line(error)
        if self._session is None:
            raise DeviceUnavailableError(
                f"{target.device.key} does not answer at {join_address(offer.host, offer.port)} ({reason});"
                f" start it again: python -m ofa_tvm.devices start {target.name}"
            )
        self._info = self._session.info
        self._name_of = name_of
        self._name: str | None = None
        if self.emulated and not target.emulated:
            self.close()
            raise DeviceUnavailableError(
                f"the device {target.device.key} at {join_address(offer.host, offer.port)} is emulated, the target"
                f" {target.name} is not; use --target {target.name}{EMULATED_SUFFIX}, under whose key emulated boards"
                " belong"
            )

    @property
    @override
    def name(self) -> str:
        if self._name is None:
            self._name = self._name_of(self._info)
        return self._name

    @property
    @override
    def emulated(self) -> bool:
        return self._target.emulated or bool(self._info and self._info.emulated)

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        return self._info.device_versions if self._info else {}

    @property
    @override
    def info(self) -> DeviceInfo | None:
        return self._info

    @property
    @override
    def is_open(self) -> bool:
        return self._session is not None

    @override
    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        return self._attempt(job.label, lambda session: session.time(job, protocol))

    @override
    def warm_up(self, reference: KernelJob, protocol: MeasurementProtocol) -> None:
        warm_up(lambda look: self.time(reference, look), protocol)

    @override
    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        check_shapes(job, [inputs])
        return self._attempt(job.label, lambda session: session.run(job, inputs, self._target.measurement.timeout_s))

    @override
    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        check_shapes(job, inputs)
        return self._attempt(
            job.label, lambda session: session.run_kernel(job, inputs, self._target.measurement.timeout_s)
        )

    @override
    def round_trips_ms(self, count: int) -> tuple[float, ...]:
        limit_s = self._target.measurement.timeout_s
        return self._attempt("an empty call", lambda session: session.round_trips_ms(count, limit_s))

    @override
    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _attempt(self, what: str, action: Callable[[RpcSession], Result]) -> Result:
        """Do it in the session, which is not used again after anything failed in it."""
        session = self._session
        if session is None:
            raise DeviceUnavailableError(f"the connection to {self.name} is closed")
        try:
            return action(session)
        except BaseException as error:
            lost = session.was_lost(error)
            self.close()  # before the error goes, and with it objects of the device, which may hang
            if not isinstance(error, Exception):
                raise
            reason = one_line(error)
            if isinstance(error, NoAnswerError):
                reason += (
                    f", measurement.timeout_s of target {self._target.name}; raise it there if the job needs longer"
                )
        if lost:
            raise DeviceUnavailableError(f"the connection to {self.name} was lost during {what} ({reason})")
        raise MeasurementError(f"{what} failed on {self.name}: {reason}")
