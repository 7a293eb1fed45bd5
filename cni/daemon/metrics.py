"""Metrics in Prometheus' text form: what the daemon did and what waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cni.daemon.call import Call
from cni.daemon.job import Report
from cni.protocol import registry
from cni.protocol.request import VERBS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 240)


Fills = Callable[[], Iterable[tuple[str, str, int, int]]]  # range, network_name, held, size of each pool


class _Pools(Collector):
    """How full the pools are, looked up when it is asked for."""

    def __init__(self, fills: Fills) -> None:
        self._fills = fills

    def collect(self) -> Iterator[Metric]:
        labels = ("range", "network_name")
        held = GaugeMetricFamily("podrail_pool_held", "Addresses of a pool that are held.", labels=labels)
        size = GaugeMetricFamily("podrail_pool_size", "Addresses that a pool has for pods.", labels=labels)
        for network, name, number, of in self._fills():
            held.add_metric((network, name), number)
            size.add_metric((network, name), of)
        yield held
        yield size

    def describe(self) -> list[Metric]:
        return []  # it is not looked at before it is asked for


class Metrics:
    """The figures of one daemon."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        labels = ("verb", "plugin")
        calls = Counter(
            "podrail_calls", "Calls that ended; code 0 is success.", (*labels, "code"), registry=registry
        )
        duration = Histogram(
            "podrail_call_seconds",
            "Time of calls by step: waiting for a turn, work in a worker, and each delegate's part of that.",
            (*labels, "step"),
            buckets=_SECONDS,
            registry=registry,
        )
        # To look a figure up by its labels takes longer than to count.
        self._calls, self._duration = cache(calls.labels), cache(duration.labels)
        self._undelivered = Counter(
            "podrail_calls_undelivered", "Calls whose caller was gone at the end.", labels, registry=registry
        )
        self._crashes = Counter(
            "podrail_worker_crashes", "Workers that ended before their call did.", registry=registry
        )
        self._repaired = Counter(
            "podrail_leaks_repaired",
            "Attachments given back by the daemon itself, by what told it to.",
            ("reason",),
            registry=registry,
        )
        for reason in ("queued DEL", "sandbox gone", "void claim"):
            self._repaired.labels(reason)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a figure that is looked up when it is asked for."""
        Gauge(f"podrail_{name}", text, registry=self._registry).set_function(value)

    def pools(self, fills: Fills) -> None:
        """Tell how full pools are, as `fills` says when it is asked."""
        self._registry.register(_Pools(fills))

    def ended(self, call: Call, report: Report) -> None:
        plugin = _one_of(registry.TYPES, call.job.plugin_type)
        labels = (_one_of(VERBS, call.verb), plugin)
        now = time.monotonic()
        began = call.began or now
        self._calls(*labels, str(report.code)).inc()
        self._duration(*labels, "wait").observe(began - call.arrived)
        if call.began:
            self._duration(*labels, "work").observe(now - began)
        for verb, delegate, seconds in report.steps:
            self._duration(verb, plugin, delegate).observe(seconds)
        if not report.delivered:
            self._undelivered.labels(*labels).inc()

    def crashed(self) -> None:
        self._crashes.inc()

    def repaired(self, reason: str) -> None:
        self._repaired.labels(reason).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)


def _one_of(known: Collection[str], name: str) -> str:
    """Return what a caller names, if it is known: each value that a label has had is kept for ever."""
    return name if name in known else "unknown"
