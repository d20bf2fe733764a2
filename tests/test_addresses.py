"""Names, IPv4 and IPv6 addresses, with a port and without, wherever users write them."""

from __future__ import annotations

import pytest

from ofa_tvm.addresses import is_loopback, join_address, split_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("board", "board", None),
        ("192.168.1.20:22", "192.168.1.20", 22),
        ("[::1]:9190", "::1", 9190),
        ("[::1]", "::1", None),
        ("::1", "::1", None),
        ("fe80::1%eth0", "fe80::1%eth0", None),
        ("[fe80::1%eth0]:22", "fe80::1%eth0", 22),
        ("fd00::a:b", "fd00::a:b", None),
        ("[::1%lo]:9190", "::1", 9190),
        ("fd00::1%eth0", "fd00::1", None),
        ("2001:db8:0:0:0:0:0:1", "2001:db8:0:0:0:0:0:1", None),
    ],
)
def test_every_spelling_is_read(text: str, host: str, port: int | None):
    assert split_address(text) == (host, port)
    assert split_address(join_address(host, 22)) == (host, 22)


@pytest.mark.parametrize(
    ("text", "spelling"),
    [("::1:9190", "[::1]:9190"), ("fd00::2:22", "[fd00::2]:22"), ("fe80::1%eth0:22", "[fe80::1%eth0]:22")],
)
def test_what_can_be_read_in_two_ways_is_refused_with_the_spelling_in_brackets(text: str, spelling: str):
    with pytest.raises(ValueError, match="port") as caught:
        split_address(text)
    assert spelling in str(caught.value)


@pytest.mark.parametrize("text", ["fe80::1", "[fe80::1]:9190"])
def test_an_address_that_means_nothing_without_a_zone_asks_for_it(text: str):
    with pytest.raises(ValueError, match="such as fe80::1%eth0"):
        split_address(text)


@pytest.mark.parametrize(
    "text",
    ["", ":", ":1", "a:", "a:0", "a:65536", "a:1_0", "a:٣", "[a]:1", "[::1", "[::1]1", "[::1]:", "a:b:c", "::1%", "-o"],
)
def test_anything_else_is_refused(text: str):
    with pytest.raises(ValueError, match=r"is no|written in brackets"):
        split_address(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.2", True), ("::1", True), ("::ffff:127.0.0.1", True), ("fe80::1%eth0", False), ("10.0.0.1", False)],
)
def test_loopback(host: str, expected: bool):
    assert is_loopback(host) is expected
