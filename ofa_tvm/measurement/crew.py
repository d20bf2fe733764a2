"""The devices of a farm: who is connected, who is missing, and who is set aside for a while."""

from __future__ import annotations

from ofa_tvm.errors import DeviceError, TrackerUnreachableError
from ofa_tvm.measurement.connection import board_of
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.limits import Clock, Limits
from ofa_tvm.measurement.member import Member
from ofa_tvm.measurement.sources import DeviceSource, Offer, no_device
from ofa_tvm.reporting import Say

POLL_REST = 10
"""So many times as long as a question for free devices took, the next one waits if there are devices to work with."""


class Crew:
    """Who is there; all that changes members happens in one thread."""

    def __init__(self, source: DeviceSource, say: Say, clock: Clock, limits: Limits) -> None:
        self.source = source
        self.say = say
        self.clock = clock
        self.limits = limits
        self.connecting: dict[str, Offer] = {}
        self.trouble: DeviceError | None = None
        self.members: list[Member] = []
        self._last_poll = float("-inf")
        self._poll_took_s = 0.0
        self._absent_since: float | None = None
        self._told = False

    @property
    def connected(self) -> list[Member]:
        """Those that can take jobs now, in the order they came."""
        return [member for member in self.members if member.connected]

    def others(self, member: Member) -> list[Member]:
        """All but this one that can take jobs now and are not on trial."""
        return [other for other in self.connected if other is not member and not other.conduct.on_trial]

    def expected(self, member: Member) -> list[Member]:
        """All but this one that can take jobs, or will again after a short outage."""
        since = self.clock() - self.limits.outage_s
        known = [other for other in self.members if other is not member and not other.conduct.on_trial]
        return [other for other in known if other.connected or other.connection.seen_since(since)]

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
        self.source.avoid = {
            member.connection.address
            for member in self.members
            if member.connection.address is not None and not member.connected and self._is_left_alone(member)
        }
        try:
            while self._has_room() and (offer := self.source.offer()) is not None:
                member = self._at(offer.identity)
                self.source.avoid.discard(offer.identity)  # what isn't taken up goes back to the tracker, but not now
                if offer.identity in self.connecting or (member is not None and self._is_left_alone(member)):
                    continue
                if member is not None:
                    member.connection.drop()  # its server was started anew
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
        here = self._at(offer.identity)
        is_back = here is not None and here.connection.leads_to(device)
        member = here if is_back else self._back_elsewhere(device)
        if member is None:
            member = self._new(offer.identity)
        if here is not None and here is not member:
            here.connection.address_taken()
        member.connection.made(offer.identity, device)
        self.trouble = None
        return member

    def refuse(self, offer: Offer, error: DeviceError) -> None:
        """It could not be connected to."""
        self.connecting.pop(offer.identity, None)
        member = self._at(offer.identity) or self._new(offer.identity)
        if self.others(member):
            self.set_aside(member, str(error))
        else:
            self.trouble = error

    def give_up(self, offer: Offer) -> None:
        """Nobody waits any more for it to be connected to."""
        self.connecting.pop(offer.identity, None)

    def set_aside(self, member: Member, why: str) -> None:
        """Leave it alone for a while, longer each time."""
        if member.set_aside(self.clock(), self.limits):
            self.say(f"{member.name} is set aside for {member.pause.length_s:.0f} s: {why}")

    def look(self) -> float:
        """Note who is there now; to be called now and then. What time it is."""
        now = self.clock()
        for member in self.connected:
            member.connection.seen(now)
        return now

    def check_absence(self, limit_s: float) -> None:
        """To be called now and then while a device is needed.

        Raises
        ------
        DeviceError
            There has been none for `limit_s`.
        """
        now = self.look()
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
            member.connection.drop()

    def _poll_period_s(self) -> float:
        if not self.connected:
            return self.limits.urgent_poll_s
        missed = any(member.connection.is_missed for member in self.members)
        # The devices wait while a tracker that hangs is asked.
        return max(self.limits.urgent_poll_s if missed else self.limits.poll_s, POLL_REST * self._poll_took_s)

    def _has_room(self) -> bool:
        limit = self.source.limit
        return limit is None or len(self.connected) + len(self.connecting) < limit

    def _is_left_alone(self, member: Member) -> bool:
        """It is busy (if its server was started anew, the job will soon fail), or set aside while others can work."""
        if member.at_work and member.connected:
            return True
        now = self.clock()
        return member.pause.lasts(now) and (bool(self.others(member)) or member.pause.is_fresh(now, self.limits))

    def _at(self, address: str) -> Member | None:
        return next((member for member in self.members if member.connection.address == address), None)

    def _back_elsewhere(self, device: Device) -> Member | None:
        """The member on the same board that has lost its connection: its server has got another port."""
        board = board_of(device)
        gone = [member for member in self.members if not (member.connected or member.at_work)]
        return next((member for member in gone if board is not None and member.connection.board == board), None)

    def _new(self, address: str) -> Member:
        self.members.append(Member(address))
        return self.members[-1]

    def _reason(self) -> str:
        try:
            return str(self.trouble or self.source.explain())
        except DeviceError as error:
            return str(error)
