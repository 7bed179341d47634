"""Datagrams of some addresses dropped by the kernel, before they take room in the queue or wake anybody.

A flood that is only read and thrown away here still fills the queue, and the heartbeats of registered peers
are lost in front of it. Linux and IPv4 only; elsewhere the flood is still dropped, but read.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address

import structlog

log = structlog.get_logger(__name__)

MAX_ADDRESSES = 2_000  # a filter may have 4,096 instructions, two an address

_ATTACH, _DETACH = 26, 27  # SO_ATTACH_FILTER, SO_DETACH_FILTER
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_SOURCE = (-0x100000 + 12) & 0xFFFFFFFF  # SKF_NET_OFF: the IP header, of which byte 12 begins the source
_ALL = 0xFFFFFFFF


def program(addresses: Iterable[str]) -> bytes:
    """The filter as instructions of eight bytes: drop these IPv4 sources, let everything else pass."""
    code = [_instruction(_LOAD_WORD, 0, 0, _SOURCE)]
    for address in addresses:
        code += [_instruction(_JUMP_EQUAL, 0, 1, int(IPv4Address(address))), _instruction(_RETURN, 0, 0, 0)]
    return b"".join((*code, _instruction(_RETURN, 0, 0, _ALL)))


def shut_out(sock: socket.socket, hosts: Iterable[str]) -> int:
    """Let the kernel drop what comes from these hosts, and only from these; how many it drops for us."""
    addresses = [host for host in hosts if _is_ipv4(host)][:MAX_ADDRESSES]
    if not sys.platform.startswith("linux") or sock.family != socket.AF_INET:
        return 0
    try:
        if not addresses:
            sock.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
            return 0
        code = program(addresses)
        held = ctypes.create_string_buffer(code, len(code))
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH, struct.pack("HP", len(code) // 8, ctypes.addressof(held)))
    except OSError as error:
        if addresses:
            log.warning("kernel_filter_failed", reason=str(error))
        return 0  # nothing was attached: there is nothing to detach
    return len(addresses)


def _instruction(code: int, if_true: int, if_false: int, k: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, k)


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True
