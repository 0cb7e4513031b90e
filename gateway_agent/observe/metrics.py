"""The figures of a gateway for Prometheus, in a registry of their own (docs/monitoring.md).

What happens is counted as it is told; what is so is looked up when Prometheus asks. Label values are bounded: further
groups are told together as `other`, and no board has a name in here.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway_agent.core.events import Event, KeyConfirmed, KeyDelivered
from gateway_agent.observe.event_stream import EventStream
from gateway_agent.observe.figures import Figures, GroupFigures

NAMES_MAX = 64
"""Values of one label; all further ones are `other`."""
OTHER = "other"
_DELIVERY_S = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, inf)


class Metrics:
    """The registry of one gateway."""

    def __init__(self, stream: EventStream, figures: Callable[[], Figures]) -> None:
        self._collector = _Gateway(figures)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        stream.follow(self._collector.count)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return the figures of this moment and their content type: OpenMetrics, if the header Accept names it.

        Raises StoreFailed.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Gateway(Collector):
    """Yields all figures of a gateway."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures
        self._confirmations: Counter[str] = Counter()
        self._delivered = [0] * len(_DELIVERY_S)
        self._delivered_s = 0.0
        self._named: dict[str, None] = {}  # the groups that have labels of their own, oldest first

    def count(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, KeyConfirmed):
            self._confirmations[event.link] += 1
        elif isinstance(event, KeyDelivered):
            self._delivered[bisect_left(_DELIVERY_S, event.seconds)] += 1
            self._delivered_s += event.seconds

    def describe(self) -> Iterable[Any]:
        """Return nothing, so that registering looks nothing up."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Yield the families of metrics. Raises StoreFailed."""
        now = self._figures()
        yield InfoMetricFamily("keycast_build", "The release that runs", {"version": now.release})
        yield from self._groups(now.groups)
        yield self._deliveries()
        counted = (
            ("confirmations", "Confirmations, by the link on which the key came", "link", self._confirmations),
            ("broadcasts", "Datagrams that were broadcast on a network", "interface", now.broadcasts),
            ("incidents", "The counters that keycast status shows", "name", now.counters),
        )
        for name, what, label, values in counted:
            counter = CounterMetricFamily(f"keycast_{name}", what, labels=(label,))
            for value, count in _bounded(values, 4 * NAMES_MAX if label == "name" else NAMES_MAX).items():
                counter.add_metric((value,), count)
            yield counter
        yield CounterMetricFamily("keycast_commits", "Synced writes, which wear SD cards", value=now.commits)
        yield GaugeMetricFamily("keycast_uplink_up", "1 if the CPNS Server answers", value=now.uplink_is_up)
        alarms = GaugeMetricFamily("keycast_alarms", "Alarms that stand now", labels=("kind",))
        for kind, count in _bounded(now.alarms, NAMES_MAX).items():
            alarms.add_metric((kind,), count)
        yield alarms

    def _groups(self, groups: Iterable[GroupFigures]) -> Iterator[Any]:
        found = {group.sg_id: group for group in groups}
        for gone in self._named.keys() - found.keys():
            del self._named[gone]
        for sg_id in found:
            if len(self._named) < NAMES_MAX and sg_id != OTHER:  # a group of this name would be told twice
                self._named.setdefault(sg_id)
        versions = GaugeMetricFamily("keycast_group_key_version", "Version of the newest Group Key", labels=("sg",))
        members = GaugeMetricFamily(
            "keycast_group_members", "Members by the state of the newest delivery", labels=("sg", "state")
        )
        others: Counter[str] = Counter()
        for sg_id, group in found.items():
            if sg_id not in self._named:
                others.update(group.states)
                continue
            name = _shown(sg_id)
            versions.add_metric((name,), group.version)
            for state, count in group.states.items():
                members.add_metric((name, state), count)
        for state, count in others.items():
            members.add_metric((OTHER, state), count)
        yield versions
        yield members

    def _deliveries(self) -> HistogramMetricFamily:
        total, buckets = 0, []
        for limit, count in zip(_DELIVERY_S, self._delivered, strict=True):
            total += count
            buckets.append(("+Inf" if limit == inf else str(limit), total))
        what = "Seconds from the beginning of a delivery to its end"
        return HistogramMetricFamily("keycast_delivery_seconds", what, buckets=buckets, sum_value=self._delivered_s)


def _shown(name: str) -> str:
    """Return a name in which each character that is not seen stands as its number, as in the log."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _bounded(values: Mapping[str, int], names_max: int) -> dict[str, int]:
    """Return `values` with at most so many names, and the sum of all further ones as `OTHER`."""
    found: dict[str, int] = {}
    for name, count in list(values.items()):
        known = name in found or len(found) < names_max
        found[name if known else OTHER] = found.get(name if known else OTHER, 0) + count
    return found
