"""The check of the networks that Group Keys are broadcast on, and of the addresses that boards are told."""

from collections.abc import Iterator

from gateway_agent.net import interfaces
from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings

_PAGE = "docs/gateway.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield each network with its broadcast address, or what is wrong with it."""
    if here.config is None:
        return
    wanted, every = here.config.broadcast.interfaces, interfaces.every_interface()
    if not wanted:
        yield good("[broadcast] interfaces is empty: keys go by unicast and by other media only")
    chosen = interfaces.matching(wanted, every)
    known = {name for each in every for name in (each.name, each.device)}
    for name in wanted:
        if name != interfaces.AUTO and name not in known:
            yield bad(
                f"There is no interface {name}, which [broadcast] interfaces names.",
                f"Name one of: {', '.join(sorted(each.name for each in every if each.broadcast)) or 'none is usable'}",
                _PAGE,
            )
    for each in chosen:
        if each.standstill:
            yield bad(f"No keys go out on {each.name}: {each.standstill}.", "Look at its cable or its Wi-Fi.", _PAGE)
        else:
            yield good(f"{each.name}: keys go from {each.address} to {each.broadcast}")
    if wanted and not chosen:
        why = "; ".join(f"{each.name}: {reason}" for each, reason in interfaces.left_out(wanted, every))
        yield bad(
            f"No network interface can broadcast over IPv4 ({why or 'there is none'}).",
            'Connect to the network, or name an interface under [broadcast] interfaces, for example ["wlan0"].',
            _PAGE,
        )
    listen = here.config.message_plane.listen
    if chosen and all(each.is_loopback for each in chosen):
        yield good("boards are on this machine only: they are told no address, and need none")
    elif not interfaces.reachable(wanted, listen, every):
        yield warning(
            "Boards are told no address: they find the gateway only by asking their network.",
            "Connect to the network with the boards, and wait until it gives this machine an address."
            if interfaces.ANY_ADDRESS in listen
            else "Let [message_plane] listen name an address of a network with boards, or 0.0.0.0.",
            _PAGE,
        )
