"""TUN devices: a network interface whose packets a process reads and writes."""

from __future__ import annotations

import fcntl
import os
import struct

from ...envs.errors import CarbonPilotError
from .namespaces import inside, ip

# linux/include/uapi/linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
MTU_BYTES = 1500
# A window of several hundred packets leaves TCP at once; the device's own queue must not be what drops them.
QUEUE_PACKETS = 10_000


def open_tun(namespace: str, name: str, address: str) -> int:
    """Make a TUN device inside a namespace, with an address, and bring it up.

    The device has no offloads (no ``IFF_VNET_HDR``), so each packet read is one packet on the wire, never a
    bundle, and loss is per packet.

    Args:
        namespace: where the device appears.
        name: of the interface.
        address: of this end, with its prefix length.

    Returns:
        The file descriptor, non-blocking; the device lives as long as it is open.
    """
    with inside(namespace):
        try:
            handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CarbonPilotError(
                f"/dev/net/tun cannot be opened ({error.strerror}). Load the module (modprobe tun); "
                "in a container, pass the device and CAP_NET_ADMIN."
            ) from error
        request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(handle, _TUNSETIFF, request)
    ip("addr", "add", address, "dev", name, namespace=namespace)
    ip(
        "link",
        "set",
        name,
        "up",
        "mtu",
        str(MTU_BYTES),
        "txqueuelen",
        str(QUEUE_PACKETS),
        namespace=namespace,
    )
    return handle
