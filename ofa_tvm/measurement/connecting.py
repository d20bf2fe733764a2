"""Several devices connected to at once; whoever decides does so in one thread."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from ofa_tvm.errors import DeviceError
from ofa_tvm.measurement.crew import Crew
from ofa_tvm.measurement.device import Device
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
            self._crew.connecting.pop(offer.identity, None)
            if not future.cancelled() and future.exception() is None:
                future.result().close()
        self._offers = {}


def wait_for_any(futures: list[Future[Any]], timeout_s: float) -> None:
    """Until one of them is done."""
    wait(futures, timeout_s, FIRST_COMPLETED)
