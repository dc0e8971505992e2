"""Counters of this process, rendered as Prometheus text. Plain integers: there is one thread."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

Labels = tuple[tuple[str, str], ...]


class Histogram:
    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        below = 0
        for bound, count in zip(self._bounds, self._counts, strict=False):
            below += count
            yield f"{name}_bucket{_braces((*labels, ('le', f'{bound:g}')))} {below}"
        below += self._counts[-1]
        yield f"{name}_bucket{_braces((*labels, ('le', '+Inf')))} {below}"
        yield f"{name}_sum{_braces(labels)} {self.total:.9g}"
        yield f"{name}_count{_braces(labels)} {below}"


class Metrics:
    """Everything `/metrics` shows. Versions are labels as text; a request that reached none has ''."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, str, int], int] = defaultdict(int)  # model, version, role, code
        self.duration: dict[int, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.queue: dict[int, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.execution: dict[int, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.batch: dict[int, Histogram] = defaultdict(lambda: Histogram(ROWS))
        self.shadowed: dict[int, int] = defaultdict(int)
        self.shadow_dropped: dict[int, int] = defaultdict(int)
        self.failures: dict[tuple[int, str], int] = defaultdict(int)  # version, outcome
        self.restarts: dict[int, int] = defaultdict(int)
        self.doubtful: dict[tuple[int, str], int] = defaultdict(int)  # version, column
        self.labels = 0
        self.unrecorded = 0
        self.in_progress = 0

    def render(
        self, *, model: str, epoch: int, roles: Mapping[int, tuple[str, str]], journal_bytes: int, connections: int
    ) -> str:
        """The exposition; `roles` has (role, executor) of each loaded version."""
        lines: list[str] = []
        add = lines.extend
        add(
            _family(
                "trueline_inference_requests_total",
                "counter",
                "Inference requests by answer.",
                (
                    (_labels(model=named, version=version, role=role, code=str(code)), count)
                    for (named, version, role, code), count in self.requests.items()
                ),
            )
        )
        for name, what, histograms in (
            ("trueline_inference_duration_seconds", "From request received to answer written.", self.duration),
            ("trueline_inference_queue_duration_seconds", "From request received to batch started.", self.queue),
            ("trueline_inference_execution_duration_seconds", "Of one batch in the executor.", self.execution),
            ("trueline_inference_batch_size", "Rows of one batch.", self.batch),
        ):
            lines += [f"# HELP {name} {what}", f"# TYPE {name} histogram"]
            for version, histogram in histograms.items():
                add(histogram.lines(name, _labels(model=model, version=str(version))))
        add(_family("trueline_inference_in_progress", "gauge", "Requests being worked on.", [((), self.in_progress)]))
        add(
            _family(
                "trueline_inference_failures_total",
                "counter",
                "Requests a version could not answer.",
                (
                    (_labels(model=model, version=str(version), outcome=outcome), count)
                    for (version, outcome), count in self.failures.items()
                ),
            )
        )
        add(_by_version("trueline_shadow_scores_total", "Shadow scores journalled.", model, self.shadowed))
        add(_by_version("trueline_shadow_dropped_total", "Shadow scores given up.", model, self.shadow_dropped))
        add(_by_version("trueline_executor_restarts_total", "Restarts of child processes.", model, self.restarts))
        add(
            _family(
                "trueline_contract_warnings_total",
                "counter",
                "Requests with a value not seen in training.",
                (
                    (_labels(model=model, version=str(version), column=column), count)
                    for (version, column), count in self.doubtful.items()
                ),
            )
        )
        add(_family("trueline_labels_total", "counter", "Labels accepted.", [((), self.labels)]))
        add(
            _family(
                "trueline_unrecorded_total",
                "counter",
                "Predictions answered while the journal could not be written.",
                [((), self.unrecorded)],
            )
        )
        add(
            _family(
                "trueline_model_info",
                "gauge",
                "Loaded versions.",
                (
                    (_labels(model=model, version=str(version), role=role, executor=executor), 1)
                    for version, (role, executor) in roles.items()
                ),
            )
        )
        add(_family("trueline_route_table_epoch", "gauge", "Epoch of the route table in force.", [((), epoch)]))
        add(_family("trueline_journal_bytes_total", "counter", "Bytes journalled.", [((), journal_bytes)]))
        add(_family("trueline_http_connections", "gauge", "Open connections.", [((), connections)]))
        return "\n".join(lines) + "\n"


def _by_version(name: str, what: str, model: str, counts: Mapping[int, int]) -> list[str]:
    samples = ((_labels(model=model, version=str(version)), count) for version, count in counts.items())
    return _family(name, "counter", what, samples)


def _family(name: str, kind: str, what: str, samples: Iterable[tuple[Labels, float]]) -> list[str]:
    return [
        f"# HELP {name} {what}",
        f"# TYPE {name} {kind}",
        *(
            f"{name}{_braces(labels)} {value:g}" if value < 1e6 else f"{name}{_braces(labels)} {value:.0f}"
            for labels, value in samples
        ),
    ]


def _labels(**labels: str) -> Labels:
    return tuple(labels.items())


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
