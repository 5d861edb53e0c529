"""The figures of a live host in Prometheus' form, read when somebody asks.

Owns names and labels: flows, steps, engines and replicas of the server's own, never a text of a client. Never counts
anything; the live host does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sundog.ir.pool_names import label_of
from sundog.live.figures import CALL_BOUNDS_S, CallFigures, FlowFigures
from sundog.live.flow import LiveFlow
from sundog.live.host import LiveHost
from sundog.sched.views import ReplicaView
from sundog.serve.batches.figures import BatchFigures

CALL_LABELS = ("engine", "model", "flow", "step")


def metrics_of(host: LiveHost, batches: BatchFigures) -> bytes:
    """Return the figures as they are now, in the text form."""
    registry = CollectorRegistry()
    registry.register(_HostCollector(host))
    registry.register(_BatchCollector(batches))
    return generate_latest(registry)


class _HostCollector(Collector):
    def __init__(self, host: LiveHost) -> None:
        self._host = host

    def collect(self) -> Iterable[Metric]:
        """Yield the figures as they are now."""
        yield from self._flows()
        yield from self._flow_calls()
        yield from self._calls()
        yield self._outcomes()
        yield self._durations()
        yield from self._replicas()
        yield from self._waiting()

    def _flows(self) -> Iterator[Metric]:
        accepted = CounterMetricFamily("sundog:flow_requests_accepted", "Requests accepted.", labels=["flow"])
        in_flight = GaugeMetricFamily("sundog:flow_rows_in_flight", "Rows in flight.", labels=["flow"])
        ended = CounterMetricFamily("sundog:flow_rows_ended", "Rows of ended requests.", labels=["flow", "state"])
        for name, flow in self._host.flows.items():
            accepted.add_metric([name], flow.num_accepted)
            in_flight.add_metric([name], flow.num_rows_in_flight)
            _add_ended(ended, flow)
        yield from (accepted, in_flight, ended)

    def _flow_calls(self) -> Iterator[Metric]:
        read: dict[str, Callable[[FlowFigures], int]] = {
            "asked": lambda figures: figures.num_asked,
            "executed": lambda figures: figures.num_executed,
            "reused": lambda figures: figures.num_reused,
        }
        for name, count in read.items():
            family = CounterMetricFamily(f"sundog:flow_calls_{name}", f"Calls {name}.", labels=["flow"])
            for flow, figures in self._host.figures.items():
                family.add_metric([flow], count(figures))
            yield family

    def _calls(self) -> Iterator[Metric]:
        read: dict[str, tuple[str, Callable[[CallFigures], int]]] = {
            "prompt_tokens": ("Prompt tokens.", lambda figures: figures.num_prompt_tokens),
            "generation_tokens": ("Output tokens.", lambda figures: figures.num_output_tokens),
            "prefix_cache_queries": ("Prompt tokens looked up.", lambda figures: figures.num_queried_tokens),
            "prefix_cache_hits": ("Prompt tokens found in a cache.", lambda figures: figures.num_cached_tokens),
        }
        for name, (what, count) in read.items():
            family = CounterMetricFamily(f"sundog:{name}", what, labels=CALL_LABELS)
            for key, figures in self._host.calls.items():
                if key[0] in self._host.engines.options:
                    family.add_metric(self._labels(key), count(figures))
            yield family

    def _outcomes(self) -> Metric:
        family = CounterMetricFamily("sundog:call_attempts", "Attempts by outcome.", labels=(*CALL_LABELS, "outcome"))
        for key, figures in self._host.calls.items():
            for outcome, number in figures.num_by_outcome.items():
                family.add_metric([*self._labels(key), outcome], number)
        return family

    def _durations(self) -> Metric:
        what = "Seconds of attempts that succeeded."
        family = HistogramMetricFamily("gen_ai_client_operation_duration_seconds", what, labels=CALL_LABELS)
        for key, figures in self._host.calls.items():
            total, buckets = 0, []
            bounds = [*(str(bound) for bound in CALL_BOUNDS_S), "+Inf"]
            for bound, number in zip(bounds, figures.num_by_bucket, strict=True):
                total += number
                buckets.append((bound, total))
            family.add_metric(self._labels(key), buckets, figures.total_s)
        return family

    def _replicas(self) -> Iterator[Metric]:
        read: dict[str, tuple[str, Callable[[ReplicaView], float]]] = {
            "num_requests_running": ("Requests that run.", lambda replica: replica.num_running),
            "num_foreign_requests": ("Requests of others, as told last.", lambda replica: replica.num_foreign),
            "kv_cache_usage_perc": ("Used share of KV blocks, as told last.", lambda replica: replica.kv_usage),
        }
        for name, (what, count) in read.items():
            family = GaugeMetricFamily(f"sundog:{name}", what, labels=["engine", "replica"])
            for pool_name, pool in self._host.driver.pools.items():
                for replica in pool.replicas:
                    family.add_metric([label_of(pool_name), replica.replica_id], count(replica))
            yield family

    def _waiting(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("sundog:num_requests_waiting", "Requests that wait.", labels=["engine"])
        for name, pool in self._host.driver.pools.items():
            waiting.add_metric([label_of(name)], pool.num_waiting + pool.num_parked)
        delayed = GaugeMetricFamily("sundog:num_requests_delayed", "Calls before a retry.", labels=["engine"])
        for wait in self._host.waits.by_pool():
            delayed.add_metric([wait.target], wait.num_calls)
        in_flight = GaugeMetricFamily("sundog:model_calls_in_flight", "Calls of models in flight.")
        in_flight.add_metric([], self._host.models.num_in_flight)
        yield from (waiting, delayed, in_flight)

    def _labels(self, key: tuple[str, str, str]) -> list[str]:
        pool, flow, step = key
        return [label_of(pool), self._host.engines.model_of(pool), flow, step]


class _BatchCollector(Collector):
    def __init__(self, figures: BatchFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Yield the figures as they are now."""
        figures = self._figures
        yield GaugeMetricFamily("sundog:batches_open", "Batches that have not ended.", figures.num_open)
        in_flight = figures.num_lines_in_flight
        yield GaugeMetricFamily("sundog:batch_lines_in_flight", "Lines at work, or before a retry.", in_flight)
        ended = CounterMetricFamily("sundog:batch_lines_ended", "Lines of batches that ended.", labels=["outcome"])
        for outcome, number in figures.num_ended_lines.items():
            ended.add_metric([outcome], number)
        yield ended


def _add_ended(family: CounterMetricFamily, flow: LiveFlow) -> None:
    for state, number in flow.num_ended_rows.items():
        family.add_metric([flow.name, state], number)
