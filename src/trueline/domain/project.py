"""The project file's values: what should be true of one model. Parsed once by `projectfile`, frozen from there on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any


@dataclass(frozen=True)
class Data:
    source: str  # file, glob, or module.py:function, relative to the project file
    target: str
    time: str | None = None
    entity: str | None = None


@dataclass(frozen=True)
class ContractPolicy:
    infer: bool = True
    unknown_columns: str = "warn"  # warn | forbid | ignore
    personal: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quality:
    """What the gate asks of a candidate; `by` is the largest tolerated relative loss against the champion."""

    metric: str | None = None  # an absolute bound's metric; the paired comparison always uses the task's own loss
    min: float | None = None
    max: float | None = None
    not_worse_than: str = "champion"
    by: float = 0.02
    confidence: float = 0.95


@dataclass(frozen=True)
class Approve:
    """Who has to say yes before a version is released: `count` of `by`."""

    by: tuple[str, ...] = ()
    count: int = 0  # 0: nobody is asked


@dataclass(frozen=True)
class Gates:
    quality: Quality = field(default_factory=Quality)
    holdout: timedelta = timedelta(days=7)
    approve: Approve = field(default_factory=Approve)


@dataclass(frozen=True)
class Step:
    """One stage of a release: `shadow` for at least a while, `canary` at a share, or `full`."""

    kind: str  # shadow | canary | full
    weight: float = 0.0
    at_least: timedelta = timedelta(0)


@dataclass(frozen=True)
class Guards:
    """The largest tolerated ratios to the champion, and the error rates of deciding wrongly."""

    errors: float = 2.0
    loss: float = 0.05  # relative: 5 %
    floor: float = 0.01  # share of bad requests below which rates count as equal
    alpha: float = 0.01
    beta: float = 0.01


@dataclass(frozen=True)
class ReleasePolicy:
    strategy: tuple[Step, ...] = (Step("canary", 0.1), Step("canary", 0.5), Step("full", 1.0))
    stick_to: str | None = None
    guards: Guards = field(default_factory=Guards)


@dataclass(frozen=True)
class Labels:
    expect_after: timedelta = timedelta(days=1)
    affected_by_prediction: bool = False


@dataclass(frozen=True)
class Monitor:
    labels: Labels = field(default_factory=Labels)
    page_on: str = "performance_loss"
    loss: float = 0.10
    false_alarms: timedelta = timedelta(days=365)  # at most one in this time


@dataclass(frozen=True)
class Retrain:
    rehearse: timedelta | None = timedelta(days=7)
    window: timedelta = timedelta(days=28)
    only_if: str = "helps"
    cooldown: timedelta = timedelta(days=1)


@dataclass(frozen=True)
class Serve:
    """The model server: where it listens, and how many processes answer there."""

    host: str = "127.0.0.1"
    port: int = 7078
    processes: int | None = 1  # None: one per core
    sync: bool = False  # each batch is on the disk before it is answered
    require_signature: bool = False
    pickle: bool = True  # models that only Python can keep are loaded, each in a process of its own
    grpc_port: int | None = None  # None: HTTP only


@dataclass(frozen=True)
class Engines:
    """Where rows, runs and tables live. Raw text: a URL, or a reference that `settings.resolve` turns into one."""

    database: str | None = None  # None: SQLite in the state folder
    tracking: str | None = None  # None: MLflow's own SQLite file there
    storage: str | None = None  # None: that folder itself


@dataclass(frozen=True)
class Project:
    name: str
    data: Data
    train: str  # module.py:function
    task: str | None = None  # regression | classification; None: inferred from the target
    contract: ContractPolicy = field(default_factory=ContractPolicy)
    params: Mapping[str, Any] = field(default_factory=dict)
    gates: Gates = field(default_factory=Gates)
    release: ReleasePolicy = field(default_factory=ReleasePolicy)
    monitor: Monitor = field(default_factory=Monitor)
    retrain: Retrain = field(default_factory=Retrain)
    serve: Serve = field(default_factory=Serve)
    engines: Engines = field(default_factory=Engines)
    target: str | None = None  # the environment whose overlay is in force
    targets: tuple[str, ...] = ()  # every environment the file names
