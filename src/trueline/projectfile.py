"""Reading `trueline.yaml`: from YAML text with line numbers to the frozen values of `domain.project`.

Every error names the file, the line, the key, what was expected and what was there; a misspelt key is told the nearest
name; a key of a later version of trueline is refused, never ignored.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from trueline.domain import project as values
from trueline.errors import InvalidProject

T = TypeVar("T")

VERSION = 1
SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
CADENCES = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=30),
}
REGRESSION_METRICS = ("mae", "rmse")
CLASSIFICATION_METRICS = ("roc_auc", "log_loss", "brier", "accuracy")
LATER = {
    "tune": "tuning",
    "notify": "notifications",
    "targets": "environments",
    "gates.slices": "slice gates",
    "gates.fairness": "fairness gates",
    "gates.latency": "latency gates",
    "gates.approve": "approvals",
    "release.guards.slow": "the latency guard",
    "retrain.max_cost": "cost caps",
}
"""Keys of the design that this version does not act on yet: refusing them is honest, ignoring them is not."""


@dataclass(frozen=True)
class Spot:
    """A node of the file: its dotted key, its YAML node, and the file's name for sentences."""

    file: str
    key: str
    node: yaml.Node

    def wrong(self, expected: str) -> NoReturn:
        got = f"{self.node.value!r}" if isinstance(self.node, yaml.ScalarNode) else f"a {_shape(self.node)}"
        place = f"{self.file}:{self.node.start_mark.line + 1}" + (f": {self.key}" if self.key else "")
        raise InvalidProject(f"{place}: expected {expected}, got {got}")


class Section:
    """One mapping of the file, read key by key; keys that nobody asked for are errors."""

    def __init__(self, spot: Spot) -> None:
        if not isinstance(spot.node, yaml.MappingNode):
            spot.wrong("a mapping of keys to values")
        self.spot = spot
        self._keys: dict[str, Spot] = {}
        for key, value in spot.node.value:
            name = " ".join(str(key.value).split())
            path = f"{spot.key}.{name}" if spot.key else name
            if name in self._keys:
                raise InvalidProject(f"{spot.file}:{key.start_mark.line + 1}: {path}: the key is there twice; keep one")
            self._keys[name] = Spot(spot.file, path, value)
        self._lines = {" ".join(str(key.value).split()): key.start_mark.line + 1 for key, _ in spot.node.value}

    def only(self, *known: str) -> Section:
        for name, spot in self._keys.items():
            if name in known:
                continue
            where = f"{spot.file}:{self._lines[name]}: {spot.key}"
            if spot.key in LATER:
                raise InvalidProject(f"{where}: {LATER[spot.key]} are not supported yet; remove the key")
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            raise InvalidProject(f"{where}: there is no such key; {hint}")
        return self

    def need(self, name: str, read: Callable[[Spot], T]) -> T:
        if name not in self._keys:
            line = self.spot.node.start_mark.line + 1
            path = f"{self.spot.key}.{name}" if self.spot.key else name
            raise InvalidProject(f"{self.spot.file}:{line}: {path} is missing; it is one of the facts trueline needs")
        return read(self._keys[name])

    def get(self, name: str, read: Callable[[Spot], T], default: T) -> T:
        spot = self._keys.get(name)
        return default if spot is None else read(spot)

    def section(self, name: str) -> Section:
        spot = self._keys.get(name)
        if spot is None:
            empty = yaml.MappingNode("tag:yaml.org,2002:map", [], self.spot.node.start_mark, self.spot.node.end_mark)
            spot = Spot(self.spot.file, f"{self.spot.key}.{name}" if self.spot.key else name, empty)
        return Section(spot)


def load(path: Path) -> values.Project:
    """Read a project file.

    Raises:
        InvalidProject: it is missing, not YAML, or a key of it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as problem:
        raise InvalidProject(
            f"there is no project file {path}; make one with: trueline init --source DATA --target COLUMN"
        ) from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidProject(f"the project file {path} cannot be read: {problem}") from problem
    return parse(text, path.name)


def parse(text: str, file: str = "trueline.yaml") -> values.Project:
    """The project that a text declares; see `load`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        said = getattr(problem, "problem", None) or str(problem).splitlines()[0]
        raise InvalidProject(f"{file}{line}: this is not valid YAML: {said}") from problem
    except (RecursionError, ValueError) as problem:
        raise InvalidProject(f"{file}: this is not valid YAML: {problem}") from problem
    if node is None:
        raise InvalidProject(f"{file}: the file is empty; make one with: trueline init --source DATA --target COLUMN")
    return _project(Section(Spot(file, "", node)))


def _project(top: Section) -> values.Project:
    top.only(
        "version", "project", "data", "train", "task", "contract", "params", "gates", "release", "monitor", "retrain"
    )
    top.need("version", _version)
    task = top.get("task", one_of("regression", "classification"), None)
    gates = _gates(top.section("gates"))
    fitting = {"regression": REGRESSION_METRICS, "classification": CLASSIFICATION_METRICS}.get(task or "")
    if fitting and gates.quality.metric not in (None, *fitting):
        top.section("gates").section("quality").need("metric", one_of(*fitting))
    return values.Project(
        name=top.need("project", name),
        data=_data(top),
        train=top.need("train", entry),
        task=task,
        contract=_contract(top.section("contract")),
        params=top.get("params", plain_mapping, {}),
        gates=gates,
        release=_release(top.section("release")),
        monitor=_monitor(top.section("monitor")),
        retrain=_retrain(top.section("retrain")),
    )


def _version(spot: Spot) -> int:
    if text(spot) != str(VERSION):
        spot.wrong(f"version {VERSION}, the newest this trueline knows")
    return VERSION


def _data(top: Section) -> values.Data:
    top.need("data", lambda spot: spot)
    data = top.section("data").only("source", "target", "time", "entity")
    return values.Data(
        source=data.need("source", text),
        target=data.need("target", text),
        time=data.get("time", optional(text), None),
        entity=data.get("entity", optional(text), None),
    )


def _contract(section: Section) -> values.ContractPolicy:
    section.only("infer", "unknown_columns", "personal")
    return values.ContractPolicy(
        infer=section.get("infer", boolean, True),
        unknown_columns=section.get("unknown_columns", one_of("warn", "forbid", "ignore"), "warn"),
        personal=section.get("personal", texts, ()),
    )


def _gates(section: Section) -> values.Gates:
    section.only("quality", "holdout")
    quality = section.section("quality").only("metric", "min", "max", "not_worse_than", "by", "confidence")
    default = values.Quality()
    asked = values.Quality(
        metric=quality.get("metric", one_of(*REGRESSION_METRICS, *CLASSIFICATION_METRICS), None),
        min=quality.get("min", number(), None),
        max=quality.get("max", number(), None),
        not_worse_than=quality.get("not_worse_than", one_of("champion"), default.not_worse_than),
        by=quality.get("by", share(), default.by),
        confidence=quality.get("confidence", number(0.5, 0.9999), default.confidence),
    )
    _bounds_and_metric(quality)
    return values.Gates(asked, section.get("holdout", span, values.Gates().holdout))


def _bounds_and_metric(quality: Section) -> None:
    """A metric without a bound, or a bound without a metric, would do nothing: say so."""
    metric = quality.get("metric", lambda spot: spot, None)
    bound = quality.get("min", lambda spot: spot, quality.get("max", lambda spot: spot, None))
    if metric is not None and bound is None:
        metric.wrong("min or max beside it (against the champion the task's own loss is compared)")
    if bound is not None and metric is None:
        bound.wrong("metric beside it, such as mae or roc_auc")


def _release(section: Section) -> values.ReleasePolicy:
    section.only("strategy", "stick_to", "guards")
    guards = section.section("guards").only("errors", "loss", "floor", "alpha", "beta")
    default = values.Guards()
    return values.ReleasePolicy(
        strategy=section.get("strategy", strategy, values.ReleasePolicy().strategy),
        stick_to=section.get("stick_to", optional(text), None),
        guards=values.Guards(
            errors=guards.get("errors", ratio, default.errors),
            loss=guards.get("loss", share(), default.loss),
            floor=guards.get("floor", share(), default.floor),
            alpha=guards.get("alpha", number(1e-6, 0.5), default.alpha),
            beta=guards.get("beta", number(1e-6, 0.5), default.beta),
        ),
    )


def _monitor(section: Section) -> values.Monitor:
    section.only("labels", "page_on", "loss", "false_alarms")
    labels = section.section("labels").only("expect_after", "affected_by_prediction")
    default = values.Monitor()
    return values.Monitor(
        labels=values.Labels(
            expect_after=labels.get("expect_after", span, default.labels.expect_after),
            affected_by_prediction=labels.get("affected_by_prediction", boolean, False),
        ),
        page_on=section.get("page_on", one_of("performance_loss"), default.page_on),
        loss=section.get("loss", share(), default.loss),
        false_alarms=section.get("false_alarms", budget, default.false_alarms),
    )


def _retrain(section: Section) -> values.Retrain:
    section.only("rehearse", "window", "only_if", "cooldown")
    default = values.Retrain()
    return values.Retrain(
        rehearse=section.get("rehearse", cadence, default.rehearse),
        window=section.get("window", span, default.window),
        only_if=section.get("only_if", one_of("helps"), default.only_if),
        cooldown=section.get("cooldown", span, default.cooldown),
    )


def text(spot: Spot) -> str:
    if not isinstance(spot.node, yaml.ScalarNode) or not spot.node.value.strip():
        spot.wrong("a text")
    return str(spot.node.value).strip()


def optional(read: Callable[[Spot], T]) -> Callable[[Spot], T | None]:
    def maybe(spot: Spot) -> T | None:
        if isinstance(spot.node, yaml.ScalarNode) and spot.node.tag == "tag:yaml.org,2002:null":
            return None
        return read(spot)

    return maybe


def name(spot: Spot) -> str:
    found = text(spot)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", found):
        spot.wrong("a name of letters, digits, dots, dashes and underscores")
    return found


def entry(spot: Spot) -> str:
    found = text(spot)
    if not re.fullmatch(r"[^:\s]+\.py:[A-Za-z_][A-Za-z0-9_]*", found):
        spot.wrong("a function, as file.py:function")
    return found


def boolean(spot: Spot) -> bool:
    found = text(spot).lower()
    if found not in {"true", "false"}:
        spot.wrong("true or false")
    return found == "true"


def one_of(*allowed: str) -> Callable[[Spot], Any]:
    def read(spot: Spot) -> str:
        found = text(spot)
        if found not in allowed:
            spot.wrong(f"one of {', '.join(allowed)}")
        return found

    return read


def texts(spot: Spot) -> tuple[str, ...]:
    if not isinstance(spot.node, yaml.SequenceNode):
        spot.wrong("a list of texts, as [a, b]")
    return tuple(text(Spot(spot.file, f"{spot.key}[{place}]", node)) for place, node in enumerate(spot.node.value))


def number(low: float = -1e300, high: float = 1e300) -> Callable[[Spot], Any]:
    bounds = "" if low == -1e300 else f" between {low:g} and {high:g}"

    def read(spot: Spot) -> float:
        try:
            found = float(text(spot))
        except ValueError:
            spot.wrong(f"a number{bounds}")
        if not low <= found <= high:
            spot.wrong(f"a number{bounds}")
        return found

    return read


def share() -> Callable[[Spot], float]:
    def read(spot: Spot) -> float:
        found = text(spot)
        try:
            value = float(found[:-1]) / 100 if found.endswith("%") else float(found)
        except ValueError:
            spot.wrong("a share, as 5% or 0.05")
        if not 0 < value <= 1:
            spot.wrong("a share above 0 and up to 100%, as 5% or 0.05")
        return value

    return read


def ratio(spot: Spot) -> float:
    found = text(spot)
    try:
        value = float(found.removesuffix("x"))
    except ValueError:
        spot.wrong("a ratio above 1, as 2x")
    if not 1 < value <= 1000:
        spot.wrong("a ratio above 1, as 2x")
    return value


def span(spot: Spot) -> timedelta:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text(spot))
    if found is None or float(found[1]) * SPANS[found[2]] > 100 * 366 * 86400:
        spot.wrong("a duration, as 30m, 6h, 7d or 4w")
    return timedelta(seconds=float(found[1]) * SPANS[found[2]])


def cadence(spot: Spot) -> timedelta | None:
    found = text(spot)
    if found in {"off", "never", "false"}:
        return None
    if found in CADENCES:
        return CADENCES[found]
    if re.fullmatch(r"\d+(?:\.\d+)?\s*[hdw]", found):
        every = span(spot)
        if every > timedelta(0):
            return every
    return spot.wrong("off, daily, weekly, monthly, or a duration such as 3d")


def budget(spot: Spot) -> timedelta:
    found = re.fullmatch(r"1\s+per\s+(\d+(?:\.\d+)?\s*[dw])", text(spot))
    if found is None:
        spot.wrong("a false-alarm budget, as 1 per 365d")
    node = yaml.ScalarNode(spot.node.tag, found[1], spot.node.start_mark, spot.node.end_mark)
    days = span(Spot(spot.file, spot.key, node))
    if days < timedelta(days=2):
        spot.wrong("a false-alarm budget of at least 2 days, as 1 per 365d")
    return days


def plain_mapping(spot: Spot) -> Mapping[str, Any]:
    if not isinstance(spot.node, yaml.MappingNode):
        spot.wrong("a mapping of parameter names to values")
    try:
        found = yaml.SafeLoader("").construct_document(spot.node)
    except (yaml.YAMLError, ValueError, TypeError) as problem:
        raise InvalidProject(f"{spot.file}:{spot.node.start_mark.line + 1}: {spot.key}: {problem}") from problem
    if not all(isinstance(key, str) for key in found):
        spot.wrong("parameter names that are texts")
    return dict(found)


def strategy(spot: Spot) -> tuple[values.Step, ...]:
    """`[shadow: 1h, canary: [10%, 50%], full]` as steps; weights only grow and the last step is full."""
    if not isinstance(spot.node, yaml.SequenceNode):
        spot.wrong("a list of stages, as [shadow: 1h, canary: [10%, 50%], full]")
    steps: list[values.Step] = []
    for place, node in enumerate(spot.node.value):
        steps += _stage(Spot(spot.file, f"{spot.key}[{place}]", node))
    weights = [step.weight for step in steps]
    kinds = [step.kind for step in steps]
    if not steps or kinds[-1] != "full" or kinds.count("full") != 1:
        spot.wrong("stages that end in full, as [shadow: 1h, canary: [10%, 50%], full]")
    if weights != sorted(weights) or kinds.count("shadow") > 1:
        spot.wrong("one shadow at most, then canary shares that grow, then full")
    return tuple(steps)


def _stage(spot: Spot) -> list[values.Step]:
    if isinstance(spot.node, yaml.ScalarNode) and spot.node.value == "full":
        return [values.Step("full", 1.0)]
    if not isinstance(spot.node, yaml.MappingNode) or len(spot.node.value) != 1:
        spot.wrong("a stage: shadow: 1h, canary: [10%, 50%], or full")
    key, value = spot.node.value[0]
    inner = Spot(spot.file, f"{spot.key}.{key.value}", value)
    if key.value == "shadow":
        return [values.Step("shadow", 0.0, span(inner))]
    if key.value != "canary":
        spot.wrong("a stage: shadow: 1h, canary: [10%, 50%], or full")
    if not isinstance(value, yaml.SequenceNode):
        inner.wrong("shares of traffic, as [10%, 50%]")
    read = share()
    shares = [read(Spot(spot.file, f"{inner.key}[{n}]", node)) for n, node in enumerate(value.value)]
    if not shares or max(shares) >= 1:
        inner.wrong("shares of traffic below 100%, as [10%, 50%]")
    return [values.Step("canary", weight) for weight in shares]


def _shape(node: yaml.Node) -> str:
    return "list" if isinstance(node, yaml.SequenceNode) else "mapping"
