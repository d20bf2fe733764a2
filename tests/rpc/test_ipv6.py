"""Trackers and servers on IPv6 addresses, as users write them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.measurement.tracker import TrackerAddress, request_session, summarize

from ..processes import await_true, free_port
from .conftest import RPC, Session


@pytest.mark.parametrize("kind", ["python", "native"])
@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_a_device_on_ipv6_serves(farm, kernels: Path, kind: str, host: str):
    port = free_port()
    tracker = farm.launch([sys.executable, RPC / "tracker.py", "--host", host, "--port", port])
    tracker.says(f"RPC tracker on [::1]:{port}")
    server = farm.launch([*farm.commands(kind), "--tracker", f"[::1]:{port}", "--key", "six", "--host", host])
    server.says(f"registered at [::1]:{port}")
    assert "reachable from other machines" not in server.log
    address = TrackerAddress.parse(f"[::1]:{port}")
    await_true(lambda: summarize(address).free.get("six"))
    (registered,) = summarize(address).addresses["six"]
    assert TrackerAddress.parse(registered).host == "::1"
    offer = request_session(address, "six")
    assert offer is not None
    session = Session(offer.host, offer.port, offer.match_key)
    np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])
    session.hang_up()


@pytest.mark.parametrize("kind", ["python", "native"])
def test_an_address_that_can_be_read_in_two_ways_is_refused_with_the_spelling(farm, kind: str):
    server = farm.launch([*farm.commands(kind), "--tracker", "::1:9190", "--key", "six"])
    assert server.process.wait(60) == 2
    assert "in brackets: [::1]:9190" in server.log
