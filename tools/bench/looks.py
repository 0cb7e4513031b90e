"""A look at a gateway with many groups and boards: a whole snapshot, and the text of /metrics.

The event loop does nothing else meanwhile, so what counts is the longest look as well as the usual one. After a commit
the store is read anew. The gateway is in a process of its own, which searches for garbage as rarely as any process that
serves. All times are the processor's.
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
_ACCEPT = "application/openmetrics-text; version=1.0.0"


def measure() -> Iterator[Line]:
    """Yield the usual and the longest time of both looks."""
    found = asyncio.run(_looks())
    size = f"{GROUPS} groups, {BOARDS:,} boards"
    median = f"processor time, median of {ROUNDS}"
    longest = f"processor time, the longest of {ROUNDS}; the event loop does nothing else meanwhile"
    ours, peer = statistics.median(found["metrics"]), statistics.median(found["peer"])
    target = min(PAUSE_MS, METRICS_TIMES * peer)
    yield Row(f"/metrics, {size}", ours, "ms", "generate_latest() on an equal registry", peer, target, median)
    yield Row(f"/metrics after a commit, {size}", max(found["metrics anew"]), "ms", target=PAUSE_MS, note=longest)
    yield Row(f"snapshot, {size}", statistics.median(found["snapshot"]), "ms", target=PAUSE_MS, note=median)
    anew = statistics.median(found["snapshot anew"])
    yield Row(f"snapshot after a commit, {size}", anew, "ms", target=PAUSE_MS, note=median)


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
            commit = partial(_commit, store, names[0])
            return {
                "snapshot": _times(observer.snapshot),
                "snapshot anew": _times(observer.snapshot, commit),
                "metrics": _times(lambda: metrics.text(_ACCEPT)),
                "metrics anew": _times(lambda: metrics.text(_ACCEPT), commit),
                "peer": _times(_equal(metrics.text(_ACCEPT)[0].decode())),
            }


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


def _commit(store: GatewayStore, pne_id: str) -> None:
    with store.transaction():
        store.pn.set_heard(pne_id, 1, "192.0.2.7:5683", "wifi")


def _times(work: Callable[[], object], prepare: Callable[[], None] = lambda: None) -> list[float]:
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
