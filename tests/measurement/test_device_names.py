"""What devices are called in records."""

from __future__ import annotations

from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.device_names import DeviceNames


def a_board(board: str | None, hostname: str | None = "raspberrypi") -> DeviceInfo:
    return DeviceInfo(id=board, hostname=hostname, cpu_model="Cortex-A72")


def names_with(*registered: str) -> DeviceNames:
    names = DeviceNames("rasp4")
    names.registered = set(registered)
    return names


def test_boards_of_one_hostname_have_names_of_their_own_in_any_order():
    first, second = a_board("a1b2c3d4e5"), a_board("f6a7b8c9d0")
    for order in ([(first, "h:1"), (second, "h:2")], [(second, "h:2"), (first, "h:1")]):
        names = names_with("h:1", "h:2")
        named = {address: names.of(info, address) for info, address in order}
        assert named["h:1"] == "rasp4 raspberrypi (a1b2c3): Cortex-A72"
        assert named["h:2"] == "rasp4 raspberrypi (f6a7b8): Cortex-A72"


def test_a_board_keeps_its_name_when_its_server_has_another_port():
    names = names_with("h:1")
    name = names.of(a_board("a1b2c3d4"), "h:1")
    names.registered = {"h:2"}
    assert names.of(a_board("a1b2c3d4"), "h:2") == name


def test_servers_on_one_board_have_names_of_their_own_and_keep_them():
    names = names_with("h:1", "h:2")
    name = names.of(a_board("a1b2c3d4"), "h:1")
    assert names.of(a_board("a1b2c3d4"), "h:2") == f"{name} at h:2"
    names.registered = {"h:2"}  # the other one is in a session, and the tracker was started anew
    assert names.of(a_board("a1b2c3d4"), "h:2") == f"{name} at h:2"


def test_boards_that_can_not_be_told_apart_are_named_by_their_addresses():
    names = names_with("h:1", "h:2")
    for address in ("h:1", "h:2"):
        assert names.of(a_board(None), address) == f"rasp4 raspberrypi: Cortex-A72 at {address}"
        assert names.of(a_board("a1b2c3d4", hostname=None), address) == f"rasp4 at {address}"
        assert names.of(None, address) == f"rasp4 at {address}"
