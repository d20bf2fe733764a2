"""How users write where something listens: a name, an IPv4 or an IPv6 address, and a port."""

from __future__ import annotations

import ipaddress
import re

_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)
_ZONE = re.compile(r"[\w.-]+")
_NAME = re.compile(r"\w[\w.-]*")


def split_address(text: str) -> tuple[str, int | None]:
    """Host and port of ``HOST``, ``HOST:PORT``, ``[IPV6]``, ``[IPV6]:PORT`` or a bare IPv6 address.

    An IPv6 address may have a zone (``fe80::1%eth0``); brackets are no part of the host, nor is a zone of an address
    that is the same in all of them, such as ``::1%lo``, which the resolver would refuse.

    Raises
    ------
    ValueError
        The text is nothing of the kind, or can be read in two ways; the message says how it is written.
    """
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed.groups()
        if not is_ipv6(host):
            raise ValueError(f"{host!r} in its brackets is no IPv6 address")
        return _zoned(host), _port(port)
    if text.count(":") > 1:
        return _zoned(_bare_ipv6(text)), None
    host, colon, port = text.partition(":")
    if not _NAME.fullmatch(host):
        raise ValueError(f"{host!r} is no host name or address")
    return host, _port(port if colon else None)


def join_address(host: str, port: int | str) -> str:
    """``HOST:PORT``, an IPv6 address in brackets."""
    return f"{bracketed_host(host)}:{port}"


def bracketed_host(host: str) -> str:
    """The host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address, with a zone or without."""
    address, percent, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return not percent or bool(_ZONE.fullmatch(zone))


def is_loopback(host: str) -> bool:
    """Whether an address in numbers is one that only its own machine reaches."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_link_local(host: str) -> bool:
    """Whether it is an IPv6 address that means nothing without a zone."""
    return is_ipv6(host) and ipaddress.IPv6Address(host.partition("%")[0]).is_link_local


def _bare_ipv6(text: str) -> str:
    host, _, port = text.rpartition(":")
    if port.isdecimal() and is_ipv6(host):
        raise ValueError(f"it could be a port or the end of an IPv6 address: write {join_address(host, port)}")
    if not is_ipv6(text):
        raise ValueError("an IPv6 address with a port is written in brackets, such as [fe80::1%eth0]:9190")
    return text


def _zoned(host: str) -> str:
    address, _, zone = host.partition("%")
    if not is_link_local(host):
        return address
    if not zone:
        raise ValueError(f"{host} is another host behind each interface: name the one here, such as {host}%eth0")
    return host


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536):
        raise ValueError(f"{text!r} is no port from 1 to 65535")
    return int(text)
