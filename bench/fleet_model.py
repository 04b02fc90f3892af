"""Fluid model of a fleet that starts one image: how long it takes, and who sends how many bytes.

Pure functions. Nodes with the same line are one class, and nodes that ask in the same step are one cohort, so
that a million nodes take a second to simulate. Two resources are shared:

- **CPU of the workers**: every start costs a redemption, a manifest and one request per blob, and with direct
  delivery its bytes. Starts are served in their order; what they leave is there for bytes.
- **Uplink of the sender** (Crisper, or the node's edge): shared fairly, but no node gets more than its line.

An edge fetches each byte once from Crisper, and sends it on at the same time. Not modelled: packet loss, the
slow start of TCP, disks of nodes, and retries.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

GIB: Final = 1 << 30
MBIT_PER_S: Final = 125_000.0  # bytes per second
QUANTILES: Final = (0.5, 0.9, 0.99)
_EPSILON: Final = 1e-9


class Delivery(StrEnum):
    """Who sends the bytes."""

    PLAINTEXT = "plaintext"
    ENCRYPTED = "encrypted"
    ACCEL = "accel"
    STORE = "redirect"
    EDGE = "edge"


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured costs of Crisper, in seconds of CPU time.

    Attributes:
        redemption_s: One exchange of a pull token.
        manifest_s: One manifest.
        blob_s: One request of a blob, without its bytes.
        byte_s: One byte that Crisper sends itself, by kind of delivery.
    """

    redemption_s: float
    manifest_s: float
    blob_s: float
    byte_s: Mapping[Delivery, float]

    def start_s(self, blobs: int) -> float:
        """Return the CPU time of one start of an image, without its bytes."""
        return self.redemption_s + self.manifest_s + blobs * self.blob_s


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes that start one image.

    Attributes:
        nodes: Number of nodes.
        window_s: Their requests come evenly over this time.
        lines: Share of nodes by the speed of their line, in bytes per second.
        image_bytes: Bytes of the image that a node does not have.
        blobs: Requests of blobs per start.
    """

    nodes: int
    window_s: float
    lines: Mapping[float, float]
    image_bytes: float
    blobs: int


@dataclass(frozen=True, slots=True)
class Site:
    """Servers.

    Attributes:
        workers: Cores that run Crisper's workers.
        uplink: Bytes per second that Crisper can send, or nginx in front of it.
        store_uplink: Bytes per second that the object store can send.
        edges: Number of edge caches, with `edge_uplink` bytes per second each; nodes are spread evenly.
    """

    workers: int
    uplink: float
    store_uplink: float = 0.0
    edges: int = 0
    edge_uplink: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a simulation.

    Attributes:
        after_s: Time from a node's request until it has the image, by quantile of the nodes.
        all_s: Time from the first request until the last node has the image.
        egress_bytes: What Crisper sends to nodes and edges.
        other_egress_bytes: What the object store, or all edges, send.
        cpu_s: CPU time of Crisper.
    """

    after_s: Mapping[float, float]
    all_s: float
    egress_bytes: float
    other_egress_bytes: float
    cpu_s: float


def simulate(fleet: Fleet, site: Site, costs: Costs, delivery: Delivery) -> Outcome:
    """Simulate the starts of a fleet."""
    start_s, total = costs.start_s(fleet.blobs), fleet.nodes * fleet.image_bytes
    admitted = min(fleet.nodes / fleet.window_s, site.workers / start_s)  # starts per second
    cpu_s, ready_s, share = fleet.nodes * start_s, 0.0, 1.0
    if delivery is Delivery.EDGE:
        link = _Link(site.edge_uplink, site.edge_uplink, 0.0)
        ready_s, share = fleet.image_bytes / min(site.edge_uplink, site.uplink / site.edges), 1 / site.edges
        egress, other = site.edges * fleet.image_bytes, total
    elif delivery is Delivery.STORE:
        link = _Link(site.store_uplink, site.store_uplink, 0.0)
        egress, other = 0.0, total
    else:
        byte_s = costs.byte_s.get(delivery, 0.0)
        left = max(_EPSILON, site.workers - admitted * start_s)
        link = _Link(
            min(site.uplink, left / byte_s) if byte_s else site.uplink,
            min(site.uplink, site.workers / byte_s) if byte_s else site.uplink,
            fleet.nodes / admitted,
        )
        egress, other = total, 0.0
        cpu_s += total * byte_s
    cohorts = _downloads(fleet, link, admitted, share)
    done = [(max(each.done_s, ready_s), each) for each in cohorts]
    times = sorted((done_s - each.asked_s, each.count) for done_s, each in done)
    after_s = {quantile: _quantile(times, quantile) for quantile in QUANTILES}
    return Outcome(after_s, max(done_s for done_s, _ in done), egress, other, cpu_s)


@dataclass(frozen=True, slots=True)
class _Link:
    """A shared uplink whose speed changes once, when the last start was admitted."""

    before: float
    after: float
    until_s: float

    def speed(self, now_s: float) -> float:
        return self.before if now_s < self.until_s - _EPSILON else self.after


@dataclass(slots=True)
class _Cohort:
    """Nodes of one class that were admitted in the same step."""

    asked_s: float
    count: float
    done_s: float = 0.0


@dataclass(slots=True)
class _Class:
    """All active nodes with the same line.

    Attributes:
        line: Bytes per second.
        served: Bytes that a node would have got if it had been there from the beginning. Nodes of a class get
            the same, so a cohort is done when `served` has grown by the image's size.
        waiting: Cohorts by the value of `served` at which they are done.
    """

    line: float
    served: float = 0.0
    active: float = 0.0
    waiting: list[tuple[float, int, _Cohort]] = field(default_factory=list)


def fair_rates(classes: Sequence[tuple[float, float]], capacity: float) -> list[float]:
    """Return the bytes per second of a node of each class: equal shares, but no more than its line.

    Args:
        classes: Line and number of nodes.
        capacity: Bytes per second to share.
    """
    rates = [0.0] * len(classes)
    nodes = sum(count for _, count in classes)
    for index in sorted(range(len(classes)), key=lambda index: classes[index][0]):
        line, count = classes[index]
        if nodes <= _EPSILON:
            break
        rates[index] = min(line, capacity / nodes)
        capacity = max(0.0, capacity - rates[index] * count)
        nodes -= count
    return rates


def _downloads(fleet: Fleet, link: _Link, admitted: float, share: float) -> list[_Cohort]:
    """Let all nodes download from one sender, which has this share of the nodes."""
    classes = [_Class(line) for line in fleet.lines]
    steps = min(4000, max(1, round(fleet.nodes)))
    step_s = (fleet.nodes / admitted) / steps
    now_s, done = 0.0, list[_Cohort]()
    for step in range(steps):
        at_s = step * step_s
        now_s = _run(classes, link, now_s, at_s, done)
        asked_s = step * fleet.window_s / steps
        for each, part in zip(classes, fleet.lines.values(), strict=True):
            count = fleet.nodes * share * part / steps
            each.active += count
            heapq.heappush(each.waiting, (each.served + fleet.image_bytes, step, _Cohort(asked_s, count)))
    now_s = _run(classes, link, now_s, max(now_s, link.until_s), done)
    _run(classes, link, now_s, math.inf, done)
    return done


def _run(classes: list[_Class], link: _Link, now_s: float, until_s: float, done: list[_Cohort]) -> float:
    """Advance to a time, or until nobody downloads. Returns the time."""
    while now_s < until_s - _EPSILON:
        rates = fair_rates([(each.line, each.active) for each in classes], link.speed(now_s))
        nexts = [
            now_s + (each.waiting[0][0] - each.served) / rate
            for each, rate in zip(classes, rates, strict=True)
            if each.waiting and rate > 0
        ]
        if not nexts:
            return now_s if until_s == math.inf else until_s
        at_s = min([until_s, *nexts])
        for each, rate in zip(classes, rates, strict=True):
            each.served += rate * (at_s - now_s)
            while each.waiting and each.waiting[0][0] <= each.served * (1 + _EPSILON):
                _, _, cohort = heapq.heappop(each.waiting)
                each.active -= cohort.count
                cohort.done_s = at_s
                done.append(cohort)
        now_s = at_s
    return now_s


def _quantile(times: Sequence[tuple[float, float]], quantile: float) -> float:
    """Return the time within which a share of the nodes is done."""
    wanted, seen = quantile * sum(count for _, count in times), 0.0
    for time_s, count in times:
        seen += count
        if seen >= wanted - _EPSILON:
            return time_s
    return times[-1][0]
