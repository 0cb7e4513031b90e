"""How many requests each token may make, by the scope that a request needs. Pure; `now` is monotonic, in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass

from key_servers.cpns_server.operators.access import Scope


@dataclass(frozen=True, slots=True)
class RequestRate:
    """`burst` requests at once, and `per_minute` of them in the long run."""

    per_minute: int
    burst: int


RATES = {
    Scope.READ: RequestRate(600, 100),
    Scope.OPERATE: RequestRate(240, 60),  # each may make a key that goes to every gateway
    Scope.ADMIN: RequestRate(120, 60),
}


class RequestRates:
    """Counts requests. A token that makes none for a while costs no memory."""

    def __init__(self, rates: Mapping[Scope, RequestRate]) -> None:
        self._rates = rates
        self._free: dict[tuple[str, Scope], tuple[float, float]] = {}  # (requests left, when that was)
        self._tidied_at = float("-inf")

    def wait_s(self, token_id: str, scope: Scope, now: float) -> float:
        """Count one request and return 0, or count nothing and return the seconds until there is room for it."""
        rate = self._rates[scope]
        per_second = rate.per_minute / 60
        self._tidy(now)
        left, at = self._free.get((token_id, scope), (float(rate.burst), now))
        left = min(rate.burst, left + (now - at) * per_second)
        if left < 1:
            return (1 - left) / per_second
        self._free[token_id, scope] = (left - 1, now)
        return 0.0

    def _tidy(self, now: float) -> None:
        """Forget, once a minute, tokens that have all their requests left."""
        if now - self._tidied_at < 60:
            return
        self._tidied_at = now
        for key, (left, at) in list(self._free.items()):
            rate = self._rates[key[1]]
            if left + (now - at) * rate.per_minute / 60 >= rate.burst:
                del self._free[key]
