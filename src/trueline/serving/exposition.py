"""What `/metrics` shows, as one table of families: how each is read off a process, added up over processes, and written.

A `Snapshot` is plain numbers by family and labels, so that it can be sent to another process, kept in a file and added
to others. Counters and histograms add; of gauges each family says how several processes make one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from trueline.serving.metrics import ROWS, SECONDS, Histogram, Metrics

Labels = tuple[str, ...]
Value = float | tuple[list[int], float]
"""A number; of a histogram its counts by bucket, the last without a bound, and the sum of what was observed."""

Sample = tuple[Labels, Value]
Snapshot = dict[str, dict[Labels, Value]]

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True)
class Source:
    """One process at one moment."""

    metrics: Metrics
    model: str = ""
    epoch: int = 0
    roles: Mapping[int, tuple[str, str]] = field(default_factory=dict)  # role and executor of each loaded version
    journalled: Mapping[str, int] = field(default_factory=dict)
    journal_bytes: int = 0
    connections: int = 0
    crashes: Mapping[int, int] = field(default_factory=dict)  # of earlier processes, by the version they were scoring


@dataclass(frozen=True)
class Family:
    name: str
    kind: str
    help: str
    labels: Labels
    read: Callable[[Source], Iterable[Sample]]
    bounds: Sequence[float] = ()
    together: Callable[[float, float], float] = lambda one, other: one + other  # gauges of two processes


def _one(read: Callable[[Source], float]) -> Callable[[Source], Iterable[Sample]]:
    return lambda source: (((), read(source)),)


def _by_version(read: Callable[[Metrics], Mapping[int, int]]) -> Callable[[Source], Iterable[Sample]]:
    return lambda source: (((source.model, str(version)), count) for version, count in read(source.metrics).items())


def _by_version_and(read: Callable[[Metrics], Mapping[tuple[int, str], int]]) -> Callable[[Source], Iterable[Sample]]:
    return lambda source: (
        ((source.model, str(version), what), count) for (version, what), count in read(source.metrics).items()
    )


def _histograms(read: Callable[[Metrics], Mapping[int, Histogram]]) -> Callable[[Source], Iterable[Sample]]:
    return lambda source: (
        ((source.model, str(version)), (list(one.counts), one.total)) for version, one in read(source.metrics).items()
    )


_VERSION = ("model", "version")

FAMILIES = (
    Family(
        "trueline_inference_requests_total",
        COUNTER,
        "Inference requests by answer.",
        ("model", "version", "role", "code"),
        lambda source: (
            ((model, version, role, str(code)), count)
            for (model, version, role, code), count in source.metrics.requests.items()
        ),
    ),
    Family(
        "trueline_inference_duration_seconds",
        HISTOGRAM,
        "From request received to answer written.",
        _VERSION,
        _histograms(lambda metrics: metrics.duration),
        SECONDS,
    ),
    Family(
        "trueline_inference_queue_duration_seconds",
        HISTOGRAM,
        "From request received to batch started.",
        _VERSION,
        _histograms(lambda metrics: metrics.queue),
        SECONDS,
    ),
    Family(
        "trueline_inference_execution_duration_seconds",
        HISTOGRAM,
        "Of one batch in the executor.",
        _VERSION,
        _histograms(lambda metrics: metrics.execution),
        SECONDS,
    ),
    Family(
        "trueline_inference_batch_size",
        HISTOGRAM,
        "Rows of one batch.",
        _VERSION,
        _histograms(lambda metrics: metrics.batch),
        ROWS,
    ),
    Family(
        "trueline_inference_in_progress",
        GAUGE,
        "Requests being worked on.",
        (),
        _one(lambda source: source.metrics.in_progress),
    ),
    Family(
        "trueline_inference_failures_total",
        COUNTER,
        "Requests a version could not answer.",
        (*_VERSION, "outcome"),
        _by_version_and(lambda metrics: metrics.failures),
    ),
    Family(
        "trueline_shadow_scores_total",
        COUNTER,
        "Shadow scores journalled.",
        _VERSION,
        _by_version(lambda metrics: metrics.shadowed),
    ),
    Family(
        "trueline_shadow_dropped_total",
        COUNTER,
        "Shadow scores given up.",
        _VERSION,
        _by_version(lambda metrics: metrics.shadow_dropped),
    ),
    Family(
        "trueline_executor_restarts_total",
        COUNTER,
        "Restarts of child processes.",
        _VERSION,
        _by_version(lambda metrics: metrics.restarts),
    ),
    Family(
        "trueline_process_crashes_total",
        COUNTER,
        "Serving processes that died, or were killed as stuck, while they scored a version.",
        _VERSION,
        lambda source: (((source.model, str(version)), count) for version, count in source.crashes.items()),
    ),
    Family(
        "trueline_contract_warnings_total",
        COUNTER,
        "Requests with a value not seen in training, labels included.",
        (*_VERSION, "column"),
        _by_version_and(lambda metrics: metrics.doubtful),
    ),
    Family("trueline_labels_total", COUNTER, "Labels accepted.", (), _one(lambda source: source.metrics.labels)),
    Family(
        "trueline_unrecorded_total",
        COUNTER,
        "Predictions answered while the journal could not be written.",
        (),
        _one(lambda source: source.metrics.unrecorded),
    ),
    Family(
        "trueline_journal_records_total",
        COUNTER,
        "Records journalled.",
        ("kind",),
        lambda source: (((kind,), count) for kind, count in source.journalled.items()),
    ),
    Family("trueline_journal_bytes_total", COUNTER, "Bytes journalled.", (), _one(lambda source: source.journal_bytes)),
    Family(
        "trueline_model_info",
        GAUGE,
        "Loaded versions.",
        (*_VERSION, "role", "executor"),
        lambda source: (
            ((source.model, str(version), role, executor), 1) for version, (role, executor) in source.roles.items()
        ),
        together=max,
    ),
    Family(
        "trueline_route_table_epoch",
        GAUGE,
        "Epoch of the route table in force; of several processes the one that is furthest behind.",
        (),
        _one(lambda source: source.epoch),
        together=min,
    ),
    Family("trueline_http_connections", GAUGE, "Open connections.", (), _one(lambda source: source.connections)),
    Family("trueline_serving_processes", GAUGE, "Processes that answer on this port.", (), _one(lambda _: 1)),
)


def snapshot(source: Source) -> Snapshot:
    return {family.name: dict(family.read(source)) for family in FAMILIES}


def lasting(given: Snapshot) -> Snapshot:
    """What stays true when its process is gone: everything but the gauges."""
    return {family.name: given.get(family.name, {}) for family in FAMILIES if family.kind != GAUGE}


def together(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Several processes as one."""
    whole: Snapshot = {}
    for family in FAMILIES:
        found = whole[family.name] = {}
        for one in snapshots:
            for labels, value in one.get(family.name, {}).items():
                found[labels] = _add(family, found[labels], value) if labels in found else value
    return whole


def _add(family: Family, one: Value, other: Value) -> Value:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return [left + right for left, right in zip(one[0], other[0], strict=True)], one[1] + other[1]
    if isinstance(one, tuple) or isinstance(other, tuple):
        raise TypeError(f"{family.name} is a histogram in one process and a number in another")
    return family.together(one, other)


def totals(given: Snapshot) -> dict[str, int]:
    """The same in few numbers, for people: how many processes, and what they journalled together."""
    (processes,) = given["trueline_serving_processes"].values()
    records = given["trueline_journal_records_total"]
    (unrecorded,) = given["trueline_unrecorded_total"].values()
    counted = {"processes": processes, **{kind: count for (kind,), count in records.items()}, "unrecorded": unrecorded}
    return {name: int(value) for name, value in counted.items() if not isinstance(value, tuple)}


def pack(given: Snapshot) -> dict[str, list[tuple[Labels, Value]]]:
    """A snapshot as JSON can hold it."""
    return {name: list(samples.items()) for name, samples in given.items()}


def unpack(fields: Any) -> Snapshot:
    """The inverse; raises ValueError for anything else."""
    found = msgspec.convert(fields, dict[str, list[tuple[Labels, float | tuple[list[int], float]]]])
    for family in FAMILIES:
        buckets = len(family.bounds) + 1 if family.bounds else None
        for labels, value in found.get(family.name, ()):
            counted = len(value[0]) if isinstance(value, tuple) else None
            if (len(labels), counted) != (len(family.labels), buckets):
                raise ValueError(f"{family.name} is counted differently there")
    return {name: dict(samples) for name, samples in found.items()}


def render(given: Snapshot) -> str:
    """Prometheus text, version 0.0.4."""
    return "\n".join(line for family in FAMILIES for line in _lines(family, given.get(family.name, {}))) + "\n"


def _lines(family: Family, samples: Mapping[Labels, Value]) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for values, value in samples.items():
        labels = tuple(zip(family.labels, values, strict=True))
        if isinstance(value, tuple):
            yield from _buckets(family, labels, *value)
        else:
            yield f"{family.name}{_braces(labels)} {_number(value)}"


def _buckets(family: Family, labels: tuple[tuple[str, str], ...], counts: list[int], total: float) -> Iterator[str]:
    below = 0
    for bound, count in zip((*(f"{bound:g}" for bound in family.bounds), "+Inf"), counts, strict=True):
        below += count
        yield f"{family.name}_bucket{_braces((*labels, ('le', bound)))} {below}"
    yield f"{family.name}_sum{_braces(labels)} {_number(total)}"
    yield f"{family.name}_count{_braces(labels)} {below}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _braces(labels: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
