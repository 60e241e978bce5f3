"""Which addresses an import may reach, and connections to no others.

A name is resolved once and every answer is checked; the connection goes to the address that was checked, so an
answer that changes in between changes nothing. Whoever follows a redirect asks here again.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from scientistcloud.errors import Unavailable, UnreadableSource, UnsafeSource

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Guard:
    """Lets public addresses through; with `private` all, and those of the networks `also` always."""

    private: bool = False
    also: Sequence[Network] = ()

    def addresses(self, host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
        """Family and address of each answer for `host`.

        Raises `UnsafeSource` where one of them may not be reached, `UnreadableSource` for a name that there is not,
        `Unavailable` where nobody answers.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as failed:
            if failed.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                raise UnreadableSource(f"there is no host {host!r}; check the address") from failed
            raise Unavailable(f"the name {host!r} cannot be looked up now: {failed.strerror}") from failed
        except UnicodeError:
            raise UnreadableSource(f"there is no host {host[:60]!r}; check the address") from None
        out = []
        for family, _, _, _, where in found:
            self.require(host, str(where[0]))
            out.append((family, str(where[0])))
        return list(dict.fromkeys(out))

    def connect(self, host: str, port: int, *, timeout_seconds: float) -> socket.socket:
        """A connection to `host`, by an address that was checked. Raises as `addresses`, and `OSError`."""
        failed: OSError | None = None
        for family, address in self.addresses(host, port):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(timeout_seconds)
                connection.connect((address, port))
            except OSError as refused:
                connection.close()
                failed = refused
            else:
                return connection
        raise failed or ConnectionError(f"{host} has no address")

    def require(self, host: str, text: str) -> None:
        """Raise `UnsafeSource` unless the address `text` of `host` may be reached."""
        address: Address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if self.private or any(address in network for network in self.also):
            return
        if not all(_is_public(each) for each in (address, *_inner(address))):
            raise UnsafeSource(
                f"{host!r} leads to {address}, an address of this machine or of a private network, which is not "
                "fetched from; the operator can allow it by IMPORT_PRIVATE_ADDRESSES"
            )


def _is_public(address: Address) -> bool:
    # `is_global` leaves out private, loopback, link-local, unique local, shared (CGNAT) and documentation ranges.
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inner(address: Address) -> list[Address]:
    """The IPv4 addresses that packets to `address` may end at."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & _MASK))
    return [each for each in found if each is not None]
