"""Every key of the project file, declared once: its kind and what it is for. Its default is its value's own.

The reader, the JSON Schema, `trueline explain` and docs/project-file.md derive from this table. A key is read into the
attribute of the same name of the dataclass in `domain.project`, whose default is the key's default: a key without one is a
fact that only the user knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, TypeGuard

from trueline.domain import project as values
from trueline.projectfile.kinds import (
    BOOLEAN,
    ENGINE,
    ENTRY,
    NAME,
    PARAMETERS,
    TARGETS,
    TEXT,
    TEXTS,
    VERSIONS,
    Kind,
    one_of,
)
from trueline.projectfile.nodes import Node
from trueline.projectfile.quantities import BUDGET, CADENCE, RATIO, SHARE, SPAN, count, count_or, number
from trueline.projectfile.strategy import STRATEGY

METRICS = {
    "regression": ("mae", "rmse"),
    "classification": ("roc_auc", "log_loss", "brier", "accuracy"),
}

LATER = {
    "tune": "searches for parameters",
    "notify": "notifications",
    "kubernetes": "Kubernetes targets",
    "gates.slices": "slice gates",
    "gates.fairness": "fairness gates",
    "gates.latency": "latency gates",
    "release.guards.slow": "latency guards",
    "retrain.max_cost": "cost caps",
}
"""Keys of the design that this version does not act on yet: refusing them is honest, ignoring them is not."""

FIXED = ("version", "project", "targets")
"""What an overlay cannot change: the file's own version, the project's identity, and the overlays."""


@dataclass(frozen=True)
class Key:
    """One value. `field` names the attribute it is read into where that is not its name; `""` is none."""

    name: str
    kind: Kind
    help: str
    field: str | None = None

    @property
    def attribute(self) -> str:
        return self.name if self.field is None else self.field


@dataclass(frozen=True)
class Group:
    """A mapping of keys. An `inline` one has no mapping of its own: its keys stand among its parent's."""

    name: str
    make: type
    help: str
    members: tuple[Key | Group, ...]
    settle: Callable[[Node, Any], Any] = lambda _, made: made
    rules: tuple[Mapping[str, Any], ...] = ()  # what `settle` refuses, as far as JSON Schema can say it
    inline: bool = False

    @property
    def attribute(self) -> str:
        return self.name

    def default(self, member: Key | Group) -> Any:
        """What is in force when nobody wrote the key; MISSING for a fact."""
        if not member.attribute:
            return MISSING
        field = next(field for field in fields(self.make) if field.name == member.attribute)
        return field.default_factory() if field.default_factory is not MISSING else field.default

    def names(self) -> tuple[str, ...]:
        """The keys that may stand in this mapping."""
        return tuple(name for m in self.members for name in (m.names() if is_inline(m) else (m.name,)))


def is_inline(member: Key | Group) -> TypeGuard[Group]:
    return isinstance(member, Group) and member.inline


def _bounds(node: Node, made: values.Quality) -> values.Quality:
    """A metric without a bound, or a bound without a metric, would do nothing: say so."""
    metric, bound = node.find("metric"), node.find("min") or node.find("max")
    if made.metric is not None and made.min is None and made.max is None:
        (metric or node).wrong("min or max beside it (against the champion the task's own loss is compared)")
    if bound is not None and made.metric is None:
        bound.wrong("metric beside it, such as mae or roc_auc")
    return made


def _approvals(node: Node, made: values.Approve) -> values.Approve:
    """Names alone ask for one of them; more yeses than names could never be."""
    names = len(set(made.by))
    if made.count > names:
        (node.find("count") or node).wrong(f"at most as many approvals as there are names in by, which are {names}")
    if names < len(made.by):
        (node.find("by") or node).wrong("each name once")
    return replace(made, count=1) if made.by and not made.count else made


def _metric_of_task(node: Node, made: values.Project) -> values.Project:
    fitting = METRICS.get(made.task or "")
    metric = node.find("gates", "quality", "metric")
    if fitting and metric and made.gates.quality.metric not in (None, *fitting):
        metric.wrong(f"one of {', '.join(fitting)}")
    return made


def _given(name: str) -> dict[str, Any]:
    """The JSON Schema of a mapping in which the key stands, and not as null."""
    return {"properties": {name: {"not": {"type": "null"}}}, "required": [name]}


DATA = Group(
    "data",
    values.Data,
    "Where the rows are and what their columns mean.",
    (
        Key("source", TEXT, "The data: a file, a glob, or module.py:function, relative to this file."),
        Key("target", TEXT, "The column to predict."),
        Key("time", TEXT, "The column that says when a row happened; days of it are what is judged."),
        Key("entity", TEXT, "The column that says whom or what a row is about."),
    ),
)

CONTRACT = Group(
    "contract",
    values.ContractPolicy,
    "What rows have to look like at ingest, in training and at serving.",
    (
        Key("infer", BOOLEAN, "Whether types, ranges and categories are learnt from the first data."),
        Key(
            "unknown_columns",
            one_of("warn", "forbid", "ignore"),
            "What happens to a column the contract does not name.",
        ),
        Key("personal", TEXTS, "Columns that are personal data."),
    ),
)

QUALITY = Group(
    "quality",
    values.Quality,
    "What a candidate has to be worth.",
    (
        Key(
            "metric",
            one_of(*METRICS["regression"], *METRICS["classification"]),
            "The metric that min or max bounds; the comparison with the champion uses the task's own loss.",
        ),
        Key("min", number(), "The least the metric may be."),
        Key("max", number(), "The most the metric may be."),
        Key("not_worse_than", one_of("champion"), "Whom a candidate is compared with, on the same rows."),
        Key("by", SHARE, "The largest tolerated loss against the champion, relative."),
        Key("confidence", number(0.5, 0.9999), "How sure the comparison has to be."),
    ),
    _bounds,
    (
        {"if": _given("metric"), "then": {"anyOf": [_given("min"), _given("max")]}},
        {"if": {"anyOf": [_given("min"), _given("max")]}, "then": _given("metric")},
    ),
)

APPROVE = Group(
    "approve",
    values.Approve,
    "Who has to say yes before a version is released.",
    (
        Key("by", TEXTS, "The names of those who may approve."),
        Key("count", count(0, 100), "How many of them have to; 1 when names are given, else nobody is asked."),
    ),
    _approvals,
    (
        {"properties": {"by": {"uniqueItems": True}}},
        {
            "if": {"properties": {"count": {"type": "integer", "minimum": 1}}, "required": ["count"]},
            "then": {"properties": {"by": {"type": "array", "minItems": 1}}, "required": ["by"]},
        },
    ),
)

GATES = Group(
    "gates",
    values.Gates,
    "What a version has to pass before it is released.",
    (
        QUALITY,
        Key("holdout", SPAN, "How many of the newest days are kept from training, to judge on."),
        APPROVE,
    ),
)

GUARDS = Group(
    "guards",
    values.Guards,
    "When a release is rolled back.",
    (
        Key("errors", RATIO, "The largest tolerated ratio of bad requests to the champion's."),
        Key("loss", SHARE, "The largest tolerated loss above the champion's, relative."),
        Key("floor", SHARE, "The share of bad requests below which rates count as equal."),
        Key("alpha", number(1e-6, 0.5), "The chance of rolling a good version back."),
        Key("beta", number(1e-6, 0.5), "The chance of letting a bad version pass."),
    ),
)

RELEASE = Group(
    "release",
    values.ReleasePolicy,
    "How a version reaches all traffic.",
    (
        Key("strategy", STRATEGY, "The stages, from the first to full."),
        Key("stick_to", TEXT, "A column: rows that share its value are answered by the same version."),
        GUARDS,
    ),
)

LABELS = Group(
    "labels",
    values.Labels,
    "How the truth arrives.",
    (
        Key("expect_after", SPAN, "How long after a prediction its true value is known."),
        Key("affected_by_prediction", BOOLEAN, "Whether a prediction changes what becomes true."),
    ),
)

MONITOR = Group(
    "monitor",
    values.Monitor,
    "What is watched, and when somebody is told.",
    (
        LABELS,
        Key("page_on", one_of("performance_loss"), "What opens an incident; drift explains, it does not page."),
        Key("loss", SHARE, "The smallest loss worth an incident, relative to the reference."),
        Key("false_alarms", BUDGET, "How often an incident may be false."),
    ),
)

RETRAIN = Group(
    "retrain",
    values.Retrain,
    "When a new model is trained.",
    (
        Key("rehearse", CADENCE, "How often a refit is made, to see whether retraining helps."),
        Key("window", SPAN, "How much of the newest data a refit learns from."),
        Key("only_if", one_of("helps"), "A refit is released only if fresh models are shown to help."),
        Key("cooldown", SPAN, "The least time between two releases of refits."),
    ),
)

SERVE = Group(
    "serve",
    values.Serve,
    "How predictions are served; command-line options of `up` and `serve` win over these.",
    (
        Key("host", TEXT, "The address to listen on; beyond this machine (127.0.0.1) callers need a token."),
        Key("port", count(0, 65535), "The port of predictions and labels; 0 takes a free one."),
        Key("grpc_port", count(0, 65535), "The port of Open Inference over gRPC (trueline[grpc]); none without it."),
        Key("processes", count_or("auto", 1, 256), "How many processes answer on that port; auto is one per core."),
        Key(
            "sync",
            BOOLEAN,
            "Whether a prediction is on the disk before it is answered: survives a power cut, costs time.",
        ),
        Key("require_signature", BOOLEAN, "Whether only signed models are loaded."),
        Key("pickle", BOOLEAN, "Whether objects that only a pickle can hold are models; each runs in its own process."),
    ),
)

ENGINES = Group(
    "engines",
    values.Engines,
    "",
    (
        Key("database", ENGINE, "PostgreSQL's URL for rows and events; default SQLite in the state folder."),
        Key(
            "tracking",
            ENGINE,
            "An MLflow server's URL for runs and versions; default MLflow's SQLite in the state folder.",
        ),
        Key("storage", ENGINE, "An object store's URL for tables and models; default the state folder."),
    ),
    inline=True,
)

PROJECT = Group(
    "",
    values.Project,
    "What should be true of one model.",
    (
        Key("version", VERSIONS, "The version of this file's format.", field=""),
        Key("project", NAME, "The project's name.", field="name"),
        DATA,
        Key("train", ENTRY, "The function that trains, as file.py:function."),
        Key(
            "task",
            one_of(*METRICS),
            "What the target is; by default two values are classes, and numbers a regression.",
        ),
        CONTRACT,
        Key("params", PARAMETERS, "Arguments handed to the training function."),
        GATES,
        RELEASE,
        MONITOR,
        RETRAIN,
        SERVE,
        ENGINES,
        Key("targets", TARGETS, "Environments: for each name what differs there, laid over the rest of this file."),
    ),
    _metric_of_task,
    tuple(
        {
            "if": {"properties": {"task": {"const": task}}, "required": ["task"]},
            "then": {
                "properties": {
                    "gates": {"properties": {"quality": {"properties": {"metric": {"enum": [*metrics, None]}}}}}
                }
            },
        }
        for task, metrics in METRICS.items()
    ),
)


@dataclass(frozen=True)
class Place:
    """A key in the whole file: its dotted name, and the attributes that lead to its value in a `Project`."""

    dotted: str
    attributes: tuple[str, ...]
    group: Group
    key: Key

    @property
    def default(self) -> Any:
        return self.group.default(self.key)


def walk(group: Group = PROJECT, path: str = "", attributes: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every key, in the order of the declaration."""
    for member in group.members:
        dotted = path if is_inline(member) else f"{path}.{member.name}".lstrip(".")
        inner = (*attributes, member.attribute)
        if isinstance(member, Group):
            yield from walk(member, dotted, inner)
        else:
            yield Place(dotted, inner, group, member)


def groups(group: Group = PROJECT, path: str = "") -> Iterator[tuple[str, Group]]:
    """Every mapping with its dotted name, the whole file first."""
    yield path, group
    for member in group.members:
        if isinstance(member, Group) and not member.inline:
            yield from groups(member, f"{path}.{member.name}".lstrip("."))
