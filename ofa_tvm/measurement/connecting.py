"""Several devices connected to at once; whoever decides does so in one thread."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from ofa_tvm.errors import DeviceError
from ofa_tvm.measurement.crew import Crew
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.limits import wait_a_little
from ofa_tvm.measurement.sources import Offer

MAX_THREADS = 256


class Connecting:
    """Connects to what a crew draws."""

    def __init__(self, crew: Crew, pool: ThreadPoolExecutor) -> None:
        self._crew = crew
        self._pool = pool
        self._offers: dict[Future[Device], Offer] = {}

    @property
    def pending(self) -> list[Future[Device]]:
        """What is under way."""
        return list(self._offers)

    def draw(self) -> None:
        """Begin to connect to what is free, if it is time to ask."""
        for offer in self._crew.draw():
            self._offers[self._pool.submit(offer.connect)] = offer

    def collect(self) -> None:
        """Take in those that were connected to, in the order they were offered, and those that could not be."""
        for future in [future for future in self._offers if future.done()]:
            offer = self._offers.pop(future)
            try:
                device = future.result()
            except DeviceError as error:
                self._crew.refuse(offer, error)
            else:
                self._crew.join(offer, device)

    def give_up(self) -> None:
        """Let those that are under way fail soon."""
        for offer in self._offers.values():
            offer.cancel()

    def forget(self) -> None:
        """Leave alone what was given up, once the threads have ended."""
        for future, offer in self._offers.items():
            self._crew.give_up(offer)
            if not future.cancelled() and future.exception() is None:
                future.result().close()
        self._offers = {}


def wait_for_any(futures: list[Future[Any]], timeout_s: float) -> None:
    """Until one of them is done."""
    wait(futures, timeout_s, FIRST_COMPLETED)


def connect_to_all(crew: Crew, limit_s: float) -> None:
    """All that are free, at once; one that hangs holds up those that are there for a while only.

    Raises
    ------
    DeviceError
        There was none within `limit_s`.
    """
    crew.begin()
    with ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="farm") as pool:
        connecting = Connecting(crew, pool)
        try:
            _connect_to_all(crew, connecting, limit_s)
        finally:
            connecting.give_up()
    connecting.forget()


def _connect_to_all(crew: Crew, connecting: Connecting, limit_s: float) -> None:
    connected_at: float | None = None
    connecting.draw()
    while True:
        wait_for_any(connecting.pending, crew.limits.poll_s)
        connecting.collect()
        if crew.connected and connected_at is None:
            connected_at = crew.clock()
        if connecting.pending and (connected_at is None or crew.clock() - connected_at < crew.limits.open_s):
            continue
        crew.check_absence(limit_s)
        if crew.connected:
            return
        wait_a_little(crew.limits)
        connecting.draw()
