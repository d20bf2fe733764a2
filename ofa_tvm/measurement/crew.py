"""The devices of a farm: who is connected, who is missing, and who is set aside for a while."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ofa_tvm.errors import DeviceError, TrackerUnreachableError
from ofa_tvm.measurement.chunk import Chunk
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.sources import DeviceSource, Offer, no_device

Say = Callable[[str], None]
Clock = Callable[[], float]

POLL_REST = 10
"""So many times as long as a question for free devices took, the next one waits if there are devices to work with."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for what, in seconds.

    Attributes
    ----------
    absence_s
        Without any device, until that is an error.
    tell_s
        Without any device, until the user is told.
    return_s
        For a device whose connection broke amid a chunk, until others get its jobs.
    pause_s, longest_pause_s
        How long a device is set aside at first, and at most; it doubles from time to time.
    poll_s
        Between two questions for free devices.
    urgent_poll_s
        The same while a device is missed.
    """

    absence_s: float = 60.0
    tell_s: float = 3.0
    return_s: float = 3.0
    pause_s: float = 30.0
    longest_pause_s: float = 300.0
    poll_s: float = 1.0
    urgent_poll_s: float = 0.05


@dataclass(slots=True, eq=False)
class Member:
    """A device of the farm, and how it has behaved.

    Attributes
    ----------
    identity
        As its offers have it.
    name
        As records have it; the identity until it has been connected to.
    names
        All it ever had, for another device may come to be reached at its address.
    device
        None while not connected.
    chunk
        What it works on.
    missed_since
        When the connection broke amid the chunk.
    pause_s, paused_until
        For how long it was set aside last, and until when; 0 once it has measured a chunk since.
    on_trial
        It was set aside, and has to prove itself with the reference kernel before it gets jobs.
    condemned
        Why it is to be set aside as soon as it has ended what it does; None if it is not.
    successes
        Jobs that did not fail.
    faults
        Jobs that failed by its own fault, by its number of successes before: two of one number came in a row.
    reference_failures
        Of the reference kernel, in a row.
    references_ms
        Latencies of the reference kernel before and after all chunks.
    """

    identity: str
    name: str
    names: list[str] = field(default_factory=list)
    emulated: bool = False
    device: Device | None = None
    chunk: Chunk | None = None
    missed_since: float | None = None
    pause_s: float = 0.0
    paused_until: float = 0.0
    on_trial: bool = False
    condemned: str | None = None
    successes: int = 0
    faults: Counter[int] = field(default_factory=Counter)
    reference_failures: int = 0
    references_ms: list[float] = field(default_factory=list)

    @property
    def connected(self) -> bool:
        """Whether it can take jobs."""
        return self.device is not None and self.device.is_open

    def drop(self) -> None:
        """End the connection."""
        device, self.device = self.device, None
        if device is not None:
            device.close()


class Crew:
    """Members by identity; all that changes them happens in one thread."""

    def __init__(self, source: DeviceSource, say: Say, clock: Clock, limits: Limits) -> None:
        self.source = source
        self.say = say
        self.clock = clock
        self.limits = limits
        self.connecting: dict[str, Offer] = {}
        self.trouble: DeviceError | None = None
        self._members: dict[str, Member] = {}
        self._last_poll = float("-inf")
        self._poll_took_s = 0.0
        self._absent_since: float | None = None
        self._told = False

    @property
    def members(self) -> list[Member]:
        """All ever seen, in the order they came."""
        return list(self._members.values())

    @property
    def connected(self) -> list[Member]:
        """Those that can take jobs now, in the order they came."""
        return [member for member in self._members.values() if member.connected]

    def others(self, member: Member) -> list[Member]:
        """All but this one that can take jobs now and are not on trial."""
        return [other for other in self.connected if other is not member and not other.on_trial]

    def begin(self) -> None:
        """Devices are needed from now on: the next `draw` asks at once, and no absence before this counts."""
        self._last_poll = float("-inf")
        self._absent_since = None

    def draw(self) -> list[Offer]:
        """Devices to connect to now, if it is time to ask for some; each is to be handed to `join` or `refuse`."""
        drawn: list[Offer] = []
        if self.clock() < self._last_poll + self._poll_period_s():
            return drawn
        start_s = self.clock()
        if not self.connected and self._absent_since is None:
            self._absent_since = start_s
        try:
            while self._has_room() and (offer := self.source.offer()) is not None:
                if self._wanted(offer):
                    if member := self._members.get(offer.identity):
                        member.drop()  # its server was started anew
                    self.connecting[offer.identity] = offer
                    drawn.append(offer)
            if isinstance(self.trouble, TrackerUnreachableError):
                self.trouble = None
        except DeviceError as error:
            self.trouble = error
        self._last_poll = self.clock()
        self._poll_took_s = self._last_poll - start_s
        return drawn

    def join(self, offer: Offer, device: Device) -> Member:
        """The member that an offer has become; one that was set aside has to prove itself with an empty chunk."""
        self.connecting.pop(offer.identity, None)
        member = self._members.setdefault(offer.identity, Member(offer.identity, device.name))
        member.drop()
        if device.name not in member.names:
            member.names.append(device.name)
            member.references_ms.clear()
        member.name, member.emulated = device.name, device.emulated
        member.device, member.missed_since = device, None
        self.trouble = None
        return member

    def refuse(self, offer: Offer, error: DeviceError) -> None:
        """It could not be connected to."""
        self.connecting.pop(offer.identity, None)
        member = self._members.setdefault(offer.identity, Member(offer.identity, offer.identity))
        if self.others(member):
            self.set_aside(member, str(error))
        else:
            self.trouble = error

    def set_aside(self, member: Member, why: str) -> None:
        """Leave it alone for a while, longer each time."""
        limits = self.limits
        member.pause_s = min(max(limits.pause_s, 2 * member.pause_s), limits.longest_pause_s)
        member.paused_until = self.clock() + member.pause_s
        member.drop()
        member.on_trial, member.condemned, member.missed_since = True, None, None
        member.reference_failures = 0
        member.faults.clear()
        member.successes += 1  # whatever fails later is another matter
        self.say(f"{member.name} is set aside for {member.pause_s:.0f} s: {why}")

    def check_absence(self, limit_s: float) -> None:
        """To be called now and then while a device is needed.

        Raises
        ------
        DeviceError
            There has been none for `limit_s`.
        """
        now = self.clock()
        if self.connected:
            if self._told:
                self.say("there is a device again")
            self._absent_since, self._told = None, False
            return
        if self._absent_since is None:
            self._absent_since = now
        absent_s = now - self._absent_since
        if absent_s >= limit_s:
            raise self.trouble or no_device(self.source)
        if absent_s >= self.limits.tell_s and not self._told:
            self._told = True
            self.say(f"waiting for a device, for {limit_s:.0f} s at most: {self._reason()}")

    def close(self) -> None:
        """End all connections."""
        for offer in self.connecting.values():
            offer.cancel()
        self.connecting.clear()
        for member in self.members:
            member.drop()

    def _poll_period_s(self) -> float:
        if not self.connected:
            return self.limits.urgent_poll_s
        missed = any(member.missed_since is not None for member in self.members)
        # The devices wait while a tracker that hangs is asked.
        return max(self.limits.urgent_poll_s if missed else self.limits.poll_s, POLL_REST * self._poll_took_s)

    def _has_room(self) -> bool:
        limit = self.source.limit
        return limit is None or len(self.connected) + len(self.connecting) < limit

    def _wanted(self, offer: Offer) -> bool:
        """An offer that isn't taken up goes back to the tracker by itself."""
        member = self._members.get(offer.identity)
        if offer.identity in self.connecting:
            return False
        if member is None:
            return True
        busy = member.connected and member.chunk is not None  # its server was started anew: the job will soon fail
        return not busy and (self.clock() >= member.paused_until or not self.others(member))

    def _reason(self) -> str:
        try:
            return str(self.trouble or self.source.explain())
        except DeviceError as error:
            return str(error)


def wait_a_little(limits: Limits) -> None:
    """Between two looks for a device."""
    time.sleep(limits.urgent_poll_s)
