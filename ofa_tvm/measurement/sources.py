"""Where a farm's devices come from: a tracker, a server of our own, or nowhere at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from typing_extensions import override

from ofa_tvm.addresses import join_address
from ofa_tvm.errors import DeviceUnavailableError
from ofa_tvm.measurement.deadline import shut_connections
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.device_names import DeviceNames
from ofa_tvm.measurement.local_farm import LocalFarm
from ofa_tvm.measurement.null_device import NullDevice
from ofa_tvm.measurement.rpc_device import RpcDevice
from ofa_tvm.measurement.tracker import (
    SessionOffer,
    TrackerAddress,
    request_device,
    request_session,
    summarize,
    unavailable,
)
from ofa_tvm.targets import Target

LOCAL_FREE_LIMIT_S = 10.0


class Offer(ABC):
    """A device that is ours for some seconds, to be connected to.

    Attributes
    ----------
    identity
        Where it is: the same whenever the same server is offered.
    """

    identity: str

    @abstractmethod
    def connect(self) -> Device:
        """A new connection, from any thread.

        Raises
        ------
        DeviceUnavailableError
            The device does not answer.
        """

    def cancel(self) -> None:  # noqa: B027 - most never wait
        """Make a `connect` that waits in another thread give up."""


class DeviceSource(ABC):
    """Offers devices one by one.

    Attributes
    ----------
    limit
        How many devices there can be at most; None for any number.
    needs_library
        Whether a job's library has to exist for it to be timed; a cost model reads only the workloads.
    avoid
        Devices by the identity of their offers that are not wanted for now; an offer may be one of them all the same.
    """

    limit: int | None = None
    needs_library: bool = True

    def __init__(self) -> None:
        self.avoid: set[str] = set()

    @abstractmethod
    def offer(self) -> Offer | None:
        """A device that is free now, or None; always called in the same thread.

        Raises
        ------
        DeviceError
            There can't be any, for the time being at least.
        """

    @abstractmethod
    def explain(self) -> str:
        """Why there is no offer, and what to type.

        Raises
        ------
        TrackerUnreachableError
            The tracker that could tell has gone.
        """


class TrackerSource(DeviceSource):
    """All devices with the target's key at a tracker that other people may use, too."""

    def __init__(self, target: Target, tracker: TrackerAddress) -> None:
        super().__init__()
        self._target = target
        self._tracker = tracker
        self._names = DeviceNames(target.device.key)

    @override
    def offer(self) -> Offer | None:
        key = self._target.device.key
        summary = summarize(self._tracker)
        # The tracker gives out whichever it likes, and a claim keeps everybody else from the device for a while.
        self._names.registered = set(summary.addresses.get(key, ()))
        avoided = self.avoid & self._names.registered
        if summary.free.get(key, 0) <= len(avoided) or (offer := request_session(self._tracker, key)) is None:
            return None
        address = join_address(offer.host, offer.port)
        return RpcOffer(self._target, offer, address, lambda info: self._names.of(info, address))

    @override
    def explain(self) -> str:
        return unavailable(self._tracker, self._target.device.key, summarize(self._tracker))


class LocalSource(DeviceSource):
    """The server of our own, started again if it has died."""

    limit = 1

    def __init__(self, target: Target, farm: LocalFarm, name: str) -> None:
        super().__init__()
        self._target = target
        self._farm = farm
        self._name = name

    @override
    def offer(self) -> Offer | None:
        key = self._target.device.key
        offer = request_device(self._farm.ensure_running(), key, LOCAL_FREE_LIMIT_S)
        return RpcOffer(self._target, offer, key, lambda _info: self._name)

    @override
    def explain(self) -> str:
        return f"the local RPC server does not answer: {self._farm.last_log_line()}"


class NullSource(DeviceSource):
    """The null device."""

    limit = 1
    needs_library = False

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target

    @override
    def offer(self) -> Offer | None:
        return _NullOffer(self._target)

    @override
    def explain(self) -> str:
        return "the null device is always there"


class RpcOffer(Offer):
    """A session that a tracker has given to us."""

    def __init__(
        self, target: Target, offer: SessionOffer, identity: str, name_of: Callable[[DeviceInfo | None], str]
    ) -> None:
        self.identity = identity
        self._target = target
        self._offer = offer
        self._name_of = name_of

    @override
    def connect(self) -> Device:
        return RpcDevice(self._target, self._offer, self._name_of)

    @override
    def cancel(self) -> None:
        shut_connections(self._offer.host, self._offer.port)


class _NullOffer(Offer):
    identity = "null"

    def __init__(self, target: Target) -> None:
        self._target = target

    @override
    def connect(self) -> Device:
        return NullDevice(self._target)


def no_device(source: DeviceSource) -> DeviceUnavailableError:
    """The error that says why a source offers nothing.

    Raises
    ------
    TrackerUnreachableError
        As `DeviceSource.explain`.
    """
    return DeviceUnavailableError(source.explain())
