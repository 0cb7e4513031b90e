"""A look at a gateway with many groups and boards: a whole snapshot, and the text of /metrics.

The event loop does nothing else meanwhile, so what counts is the longest look as well as the usual one. After a commit
what was written about is read anew: one board of one group, or at worst every board of every group. The gateway is in a
process of its own, which searches for garbage as rarely as any process that serves. All times are the processor's.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.store.delivery_table import DeliveryOutcome
from gateway_agent.store.group_keys import GroupKey
from gateway_agent.store.store import GatewayStore
from keycast.services import garbage
from keycast.services.steering import server_facts
from tools.bench.home import build_home
from tools.bench.rows import Line, Row
from tools.bench.side_process import side_process

GROUPS, BOARDS = 64, 1000
VERSIONS = 3  # deliveries of each group that the store remembers
ROUNDS = 60
PAUSE_MS = 20.0
METRICS_TIMES = 2.0
AFTER_ONE = " after a confirmation"
AFTER_ALL = " after a commit about all"
_ACCEPT = "application/openmetrics-text; version=1.0.0"


def measure() -> Iterator[Line]:
    """Yield the usual and the longest time of both looks."""
    found = asyncio.run(_looks())
    size = f"{GROUPS} groups, {BOARDS:,} boards"
    median = f"processor time, median of {ROUNDS}"
    longest = f"processor time, the longest of {ROUNDS}; the event loop does nothing else meanwhile"
    what, peer = "generate_latest() on an equal registry", statistics.median(found["peer"])
    for when in ("", AFTER_ONE):
        ours = statistics.median(found[f"metrics{when}"])
        yield Row(f"/metrics{when}, {size}", ours, "ms", what, peer, METRICS_TIMES * peer, median)
    yield Row(f"/metrics{AFTER_ALL}, {size}", max(found[f"metrics{AFTER_ALL}"]), "ms", target=PAUSE_MS, note=longest)
    for when in ("", AFTER_ONE, AFTER_ALL):
        ours = statistics.median(found[f"snapshot{when}"])
        yield Row(f"snapshot{when}, {size}", ours, "ms", target=PAUSE_MS, note=median)


async def _looks() -> dict[str, list[float]]:
    async with side_process(look) as process:
        found: dict[str, list[float]] = await process.hear()
    return found


def look(link: Connection) -> None:
    """Send the milliseconds of snapshots, of /metrics, and of the same text made from an equal registry, by name."""
    link.send(asyncio.run(_look()))


async def _look() -> dict[str, list[float]]:
    from gateway_agent.observe.metrics import Metrics

    with tempfile.TemporaryDirectory() as folder:
        async with build_home(Path(folder), BOARDS, DeliveryPolicy()) as home:
            store = home.app._store
            assert store is not None
            names = [each.pne_id for each in home.pnes]
            with store.transaction():
                for number in range(GROUPS - 1):  # one is there
                    _fill(store, f"home/{number:03}", names[number :: GROUPS - 1])
            observer = home.app.observer(partial(server_facts, home.server))
            metrics = Metrics(home.app.stream, observer.figures)
            garbage.search_rarely()
            one, everything = partial(_confirm, store, ["home/000"]), partial(_confirm, store, None)
            found = {"peer": _times(_equal(metrics.text(_ACCEPT)[0].decode()))}
            for when, prepare in (("", _nothing), (AFTER_ONE, one), (AFTER_ALL, everything)):
                found[f"snapshot{when}"] = _times(observer.snapshot, prepare)
                found[f"metrics{when}"] = _times(lambda: metrics.text(_ACCEPT), prepare)
            return found


def _fill(store: GatewayStore, sg_id: str, members: list[str]) -> None:
    store.inventory.ensure_group(sg_id)
    for pne_id in members:
        store.inventory.add_member(sg_id, pne_id, 0, 1)
    for version in range(1, VERSIONS + 1):
        store.inventory.set_version(sg_id, version)
        store.group_keys.add(sg_id, GroupKey(version, bytes(16), 0, 1))
        store.deliveries.add(sg_id, version, 1, 1)
        store.deliveries.start(sg_id, version, 1, dict.fromkeys(members, "pending"))
        outcomes = dict.fromkeys(members, DeliveryOutcome("confirmed", "wifi", 1, 1))
        store.deliveries.set_outcomes(sg_id, version, outcomes)
        store.deliveries.set_phase(sg_id, version, "finished")


def _nothing() -> None:
    """Commit nothing."""


def _confirm(store: GatewayStore, sg_ids: list[str] | None) -> None:
    """Store that one board of each of these groups has confirmed, or every board of all groups, and was heard."""
    with store.transaction():
        for group in store.inventory.groups(sg_ids):
            states = store.deliveries.states(group.sg_id, group.version)
            names = list(states) if sg_ids is None else list(states)[:1]
            outcomes = dict.fromkeys(names, DeliveryOutcome("confirmed", "wifi", 1, 1))
            store.deliveries.set_outcomes(group.sg_id, group.version, outcomes)
            for pne_id in names:
                store.pn.set_heard(pne_id, 1, "192.0.2.7:5683", "wifi")


def _times(work: Callable[[], object], prepare: Callable[[], None] = _nothing) -> list[float]:
    """Return the processor's milliseconds of each `work`, after one to warm up; `prepare` runs before each."""
    took = []
    for _ in range(ROUNDS + 1):
        prepare()
        began = time.process_time()
        work()
        took.append((time.process_time() - began) * 1000)
    return took[1:]


def _equal(text: str) -> Callable[[], bytes]:
    """Return a function that makes the text of a registry with the metrics, labels and values of `text`."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.openmetrics.exposition import generate_latest
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    families: Any = text_string_to_metric_families  # untyped
    registry = CollectorRegistry()
    for family in families(text):
        if family.type == "histogram":
            Histogram(family.name, family.documentation, registry=registry).observe(1)
            continue
        labels = list(family.samples[0].labels) if family.samples else []
        kind = Counter if family.type == "counter" else Gauge
        metric = kind(f"{family.name}_info" if family.type == "info" else family.name, "-", labels, registry=registry)
        for sample in family.samples:
            child = metric.labels(**sample.labels) if labels else metric
            child.inc(sample.value)
    make: Callable[[Any], bytes] = generate_latest
    return lambda: make(registry)
