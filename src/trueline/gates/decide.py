"""The gate's verdict, from evidence alone: is the candidate sound, and is it good enough to be tried on traffic?

*Sanity* and *parity of presence* are always asked. *Merit* is asked once, in the first form that applies: a freshness
process standing at 1/α vouches for every new refit; else the candidate meets the champion (and the best champion before
it, by twice the margin, so that a chain of small losses ends), or, where nothing serves yet, the constant baseline. Merit
is judged on blocks later than the training rows of both models, by resampling blocks: shown is pass, the opposite shown
is fail, neither is inconclusive.
"""

from __future__ import annotations

from dataclasses import dataclass

from trueline.domain.figures import figure
from trueline.domain.verdicts import Verdict
from trueline.stats.blocks import BlockPair, relative_difference
from trueline.stats.proportion import confidence_sequence

VOUCHED = {
    "freshness": ("freshness is shown to pay", "refit"),
    "champion": ("the champion is shown to be stale", "refit"),
    "earlier": ("it is shown to be better than the champion and the freshest refit", "earlier champion"),
}
GRAVITY = (Verdict.error, Verdict.failed, Verdict.inconclusive)


@dataclass(frozen=True)
class Sanity:
    """What was found when the packaged artefact itself was loaded and asked."""

    loads: bool = True
    finite: bool = True
    parity: bool = True
    problem: str = ""  # what went wrong, for the sentence
    error: str | None = None  # the check itself could not be made


@dataclass(frozen=True)
class Presence:
    """In what share of rows a feature has a value: as trained on, and as served."""

    feature: str
    trained: float
    served_rows: int
    served_present: int


@dataclass(frozen=True)
class Metric:
    name: str
    value: float | None  # None: there are no rows to measure it on
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class GateEvidence:
    version: int
    sanity: Sanity
    presence: tuple[Presence, ...] = ()
    baseline: tuple[BlockPair, ...] | None = None  # candidate beside the constant; when there is no champion
    champion: int | None = None
    against_champion: tuple[BlockPair, ...] | None = None
    best_earlier: int | None = None
    against_best_earlier: tuple[BlockPair, ...] | None = None
    vouched_by: str | None = None  # the rehearsal's process, "freshness" or "champion", that vouches for this refit
    wealth: float | None = None  # of that process, when the gate was asked for
    metric: Metric | None = None


@dataclass(frozen=True)
class GatePolicy:
    margin: float = 0.005
    confidence: float = 0.95
    min_blocks: int = 5
    alpha: float = 0.05  # the rehearsal vouches at 1/alpha
    served_at_least: float = 0.5  # of the share seen in training, or the feature is not known in time
    presence_alpha: float = 0.001
    seed: int = 0


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class GateDecision:
    verdict: Verdict
    reason: str
    checks: tuple[Check, ...]


def decide_gate(evidence: GateEvidence, policy: GatePolicy) -> GateDecision:
    """Verdict, sentence and every check behind it; the gravest check decides."""
    checks = [_sanity(evidence), *_presence(evidence, policy), *_metric(evidence)]
    checks.extend(_merit(evidence, policy))
    for verdict in GRAVITY:
        grave = [check.reason for check in checks if check.verdict is verdict]
        if grave:
            return GateDecision(verdict, "; ".join(grave), tuple(checks))
    return GateDecision(Verdict.passed, checks[-1].reason, tuple(checks))


def _sanity(evidence: GateEvidence) -> Check:
    found, name = evidence.sanity, f"version {evidence.version}"
    if found.error is not None:
        return Check("sanity", Verdict.error, f"{name} could not be checked: {found.error}")
    problems = (
        (found.loads, "cannot be loaded for serving"),
        (found.finite, "gives predictions that are not finite numbers"),
        (found.parity, "does not predict what the fitted estimator predicts"),
    )
    for fine, what in problems:
        if not fine:
            return Check("sanity", Verdict.failed, f"{name} {what}{f': {found.problem}' if found.problem else ''}")
    return Check("sanity", Verdict.passed, f"{name} loads, agrees with the fitted estimator, and is finite everywhere")


def _presence(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    """Train/serve parity: a feature that training had and serving lacks leaks what only comes later."""
    checks = []
    for feature in evidence.presence:
        served = confidence_sequence(feature.served_present, feature.served_rows, alpha=policy.presence_alpha)
        if served.high >= policy.served_at_least * feature.trained:
            continue
        share = feature.served_present / feature.served_rows
        known = "is not known" if share < 0.01 else "is mostly not known"
        reason = (
            f"feature {feature.feature!r} {known} when predictions are made: it has a value in {feature.trained:.0%} "
            f"of the training rows, but in {share:.1%} of {feature.served_rows} rows as served"
        )
        checks.append(Check("leakage", Verdict.failed, reason))
    if not checks:
        rows = max((feature.served_rows for feature in evidence.presence), default=0)
        reason = f"every feature is present in {rows} served rows as in training" if rows else "nothing is served yet"
        checks.append(Check("leakage", Verdict.passed, reason))
    return checks


def _metric(evidence: GateEvidence) -> list[Check]:
    metric = evidence.metric
    if metric is None:
        return []
    if metric.value is None:
        return [
            Check(
                "metric", Verdict.inconclusive, f"no labelled row later than its training to measure {metric.name} on"
            )
        ]
    value = f"{metric.name} is {figure(metric.value)}"
    if metric.least is not None and not metric.value >= metric.least:
        return [Check("metric", Verdict.failed, f"{value}, below the declared minimum {figure(metric.least)}")]
    if metric.most is not None and not metric.value <= metric.most:
        return [Check("metric", Verdict.failed, f"{value}, above the declared maximum {figure(metric.most)}")]
    return [Check("metric", Verdict.passed, f"{value}, as declared")]


def _merit(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    needed = 1 / policy.alpha
    if evidence.wealth is not None and evidence.wealth >= needed:
        shown, what = VOUCHED.get(evidence.vouched_by or "", VOUCHED["freshness"])
        reason = (
            f"{shown} (wealth {evidence.wealth:.0f}, needed {needed:.0f}), which vouches for this "
            f"{what}; it is sane and its features are known in time"
        )
        return [Check("merit", Verdict.passed, reason)]
    if evidence.champion is None:
        return [_not_worse(evidence.baseline, "the constant baseline", 0.0, policy)]
    checks = [_not_worse(evidence.against_champion, f"champion version {evidence.champion}", policy.margin, policy)]
    if evidence.against_best_earlier is not None and evidence.best_earlier is not None:
        name = f"the best earlier champion, version {evidence.best_earlier}"
        checks.insert(0, _not_worse(evidence.against_best_earlier, name, 2 * policy.margin, policy))
    return checks


def _not_worse(pairs: tuple[BlockPair, ...] | None, other: str, margin: float, policy: GatePolicy) -> Check:
    have = len(pairs or ())
    if have < policy.min_blocks:
        return Check(
            "merit",
            Verdict.inconclusive,
            f"only {have} of the {policy.min_blocks} labelled days needed to compare with {other}, "
            "later than the training rows of both",
        )
    found = relative_difference(pairs or (), confidence=policy.confidence, seed=policy.seed)
    numbers = (
        f"loss {found.estimate:+.1%} (between {found.low:+.1%} and {found.high:+.1%}, each at {policy.confidence:.0%}) "
        f"relative to {other} over {found.blocks} days, {found.rows} rows"
    )
    asked = f"at most {margin:+.1%} was asked" if margin > 0 else "better was asked"
    if found.high < margin or (margin > 0 and found.high <= margin):
        return Check("merit", Verdict.passed, f"{numbers}; {asked}")
    if found.low > margin:
        return Check("merit", Verdict.failed, f"{numbers}; {asked}")
    return Check("merit", Verdict.inconclusive, f"{numbers}; {asked}, and the days so far show neither")
