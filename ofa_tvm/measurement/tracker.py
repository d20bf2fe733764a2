"""Client of TVM's RPC tracker in which every wait has a limit; TVM's own waits for ever for a device in use."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import BaseModel, TypeAdapter
from tvm.rpc import base

from ofa_tvm.addresses import join_address, split_address
from ofa_tvm.errors import DeviceUnavailableError, TrackerUnreachableError, UsageError
from ofa_tvm.measurement.tracker_conversation import Conversation
from ofa_tvm.targets import EMULATED_SUFFIX

ANSWER_LIMIT_S = 5.0
CLAIM_LIMIT_S = 1.0
POLL_PERIOD_S = 0.05
RETURN_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class TrackerAddress:
    """Where an RPC tracker listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> TrackerAddress:
        """From ``host:port``, an IPv6 address in brackets.

        Raises
        ------
        UsageError
            The text is nothing of the kind.
        """
        try:
            host, port = split_address(text)
        except ValueError as error:
            raise UsageError(
                f"tracker {text!r} is not HOST:PORT, such as 127.0.0.1:9190 or [::1]:9190: {error}"
            ) from None
        if port is None:
            raise UsageError(f"tracker {text!r} is not HOST:PORT: it names no port; write {join_address(host, 9190)}")
        return cls(host, port)

    def __str__(self) -> str:
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class SessionOffer:
    """A device the tracker has given to us: connect there with the match key."""

    host: str
    port: int
    match_key: str


@dataclass(frozen=True, slots=True)
class TrackerSummary:
    """What a tracker knows, by device key.

    Attributes
    ----------
    registered, free
        How many devices are registered, and how many of them are free.
    pending
        How many requests wait. One whose client has gone is counted until the next device becomes free.
    addresses
        ``host:port`` of the registered devices' servers.
    """

    registered: dict[str, int]
    free: dict[str, int]
    pending: dict[str, int] = field(default_factory=dict)
    addresses: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        devices = [f"{key} ({self.free.get(key, 0)} of {count} free)" for key, count in sorted(self.registered.items())]
        return ", ".join(devices) or "no device"


def summarize(address: TrackerAddress) -> TrackerSummary:
    """Ask the tracker what is registered.

    Raises
    ------
    TrackerUnreachableError
        Nothing there answers as a tracker does.
    """
    with _conversation(address) as tracker:
        summary = tracker.ask([base.TrackerCode.SUMMARY], _SUMMARY, ANSWER_LIMIT_S)
    addresses: dict[str, tuple[str, ...]] = {}
    for server in summary.server_info:
        key = server.key.removeprefix("server:")
        host, port = server.addr
        addresses[key] = (*addresses.get(key, ()), join_address(host, port))
    return TrackerSummary(
        registered={key: len(of_key) for key, of_key in addresses.items()},
        free={key: queue.free for key, queue in summary.queue_info.items()},
        pending={key: queue.pending for key, queue in summary.queue_info.items()},
        addresses=addresses,
    )


def claim_device(address: TrackerAddress, key: str) -> SessionOffer | None:
    """Take a device with this key that is free right now; None if there is none, or somebody else was quicker.

    Raises
    ------
    TrackerUnreachableError
        Nothing there answers as a tracker does.
    """
    return request_session(address, key) if summarize(address).free.get(key) else None


def request_session(address: TrackerAddress, key: str) -> SessionOffer | None:
    """Ask for a device with this key; None if none is free within a second.

    Raises
    ------
    TrackerUnreachableError
        As for `claim_device`.
    """
    with _conversation(address) as tracker:
        try:
            host, port, match_key = tracker.ask([base.TrackerCode.REQUEST, key, "", 1], _OFFER, CLAIM_LIMIT_S)
        except TimeoutError:  # the tracker passes over a request whose connection is closed
            return None
    return SessionOffer(host, port, match_key)


def request_device(address: TrackerAddress, key: str, timeout_s: float) -> SessionOffer:
    """Wait until a device with this key is free, and take it.

    Raises
    ------
    TrackerUnreachableError
        Nothing there answers as a tracker does.
    DeviceUnavailableError
        None was free within `timeout_s`.
    """
    start = time.monotonic()
    while (offer := claim_device(address, key)) is None:
        summary = summarize(address)
        # A device in use becomes free; one that is not even registered comes back soon or not at all.
        limit_s = timeout_s if key in summary.registered else min(timeout_s, RETURN_LIMIT_S)
        if time.monotonic() - start > limit_s:
            raise DeviceUnavailableError(unavailable(address, key, summary))
        time.sleep(POLL_PERIOD_S)
    return offer


def unavailable(address: TrackerAddress, key: str, summary: TrackerSummary) -> str:
    """What to tell somebody who wanted a device with this key: what is there instead, and what to type."""
    if count := summary.registered.get(key):
        which = f"the device {key!r}" if count == 1 else f"all {count} devices {key!r}"
        return (
            f"{which} at tracker {address}, which has {summary}, is in use or hangs; wait for the other run to end,"
            " and see python -m ofa_tvm.devices list"
        )
    if key.endswith(EMULATED_SUFFIX):
        advice = f"python -m ofa_tvm.devices emulate {key.removesuffix(EMULATED_SUFFIX)}"
    else:
        advice = f"python -m ofa_tvm.devices start {key} (a new board: setup {key} --ssh USER@HOST)"
    return f"no device {key!r} at tracker {address}, which has {summary}; type: {advice}"


class _Queue(BaseModel):
    free: int
    pending: int


class _Server(BaseModel):
    key: str
    addr: tuple[str, int]


class _Summary(BaseModel):
    queue_info: dict[str, _Queue]
    server_info: list[_Server]


_SUMMARY = TypeAdapter(tuple[int, _Summary])
_OFFER = TypeAdapter(tuple[int, tuple[str, int, str]])


@contextlib.contextmanager
def _conversation(address: TrackerAddress) -> Iterator[Conversation]:
    """A connection to the tracker, greeted; whatever goes wrong on it is the tracker's fault."""
    try:
        with socket.create_connection((address.host, address.port), timeout=ANSWER_LIMIT_S) as connection:
            # Both sides send a message in two parts; with these the second does not wait for 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            conversation = Conversation(connection, ANSWER_LIMIT_S)
            conversation.greet()
            yield conversation
    except (OSError, ValueError) as error:
        raise TrackerUnreachableError(
            f"no RPC tracker answers at {address} ({error}); start one with scripts/start_rpc_tracker.sh"
            " or name another in OFA_TVM_TRACKER=HOST:PORT"
        ) from error
