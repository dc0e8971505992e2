"""Walking a pipeline from its rows to its result: read, decide, commit, start what is to be started; then wait for what ends.

The rows of `steps` are the only memory. Whoever holds the run may begin the walk at any time, after a death or a mended
step: what is finished and still what it would be is kept, and the rest follows. An attempt runs in a process of its own,
and no process starts before its claim is committed. An attempt leaves its result in a file, whose key tells another
holder whether it counts; so an attempt that had finished is not repeated, even when its worker died before saying so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from trueline.control import steps
from trueline.control.context import Context
from trueline.control.steps import Planned
from trueline.domain import contracts
from trueline.domain.runs import Run
from trueline.domain.steps import Step
from trueline.errors import TrainingFailed, Unavailable
from trueline.pipelines import plan, step_keys, values
from trueline.pipelines.execute import death
from trueline.pipelines.fresh import Processes
from trueline.pipelines.graph import Call, Graph
from trueline.pipelines.key import run_key
from trueline.pipelines.outputs import Outputs
from trueline.pipelines.plan import Action, Decision, Facts
from trueline.pipelines.prepared import Prepared
from trueline.pipelines.reach import Reach
from trueline.pipelines.spec import StepSpec, result_file, step_folder
from trueline.pipelines.step_keys import Keys

MODULE = "trueline.pipelines.step_child"
LONGEST_LOOK = 60.0
EXPLAINED = 20
"""So many earlier steps of the same name are compared with one that has to run."""


def cores() -> int:
    """How many steps run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Attempt:
    """A process under way."""

    call: Call
    step: Step
    fence: int
    key: str
    ends_at: float  # monotonic
    overdue: bool = False


@dataclass
class Walk:
    """One holder's way through one run."""

    context: Context
    processes: Processes
    outputs: Outputs
    prepared: Prepared
    run: Run
    fence: int
    graph: Graph
    at_once: int = field(default_factory=cores)
    pause: Callable[[float], object] = time.sleep
    done: dict[str, values.Tree] = field(default_factory=dict)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    failure: str | None = None

    def to_end(self) -> values.Tree:
        """Make everything that is not made yet; the whole output of the step that the pipeline returns.

        Raises:
            TrainingFailed: a step failed for good; what else was running has been finished, and is kept.
            Conflict: the run was lost to somebody else.
            Unavailable: processes cannot be started now.
        """
        self.keys: Keys = _keys_of(self.prepared, self.outputs)
        with self.context.store.begin() as tx:
            steps.held(tx, self.run, self.fence)
            steps.plan(tx, self.run, map(_planned, enumerate(self.graph.calls)), actor=self.context.actor)
        try:
            return self._walk()
        finally:
            self._stop()

    def _walk(self) -> values.Tree:
        while True:
            later = self._advance()
            if self.attempts:
                self._collect(later)
            elif self.failure is not None:
                raise TrainingFailed(f"{self.failure}; mend it and go on with: trueline resume {self.run.id}")
            elif later is not None:
                self.pause(max(0.0, (later - self.context.clock.wall()).total_seconds()))
            elif not self._stale():
                return self.done[self.graph.result["step"]]

    def _stop(self) -> None:
        """Leave no process behind; none is left where the walk came to an end of its own."""
        for job in self.attempts:
            with contextlib.suppress(Unavailable):
                self.processes.kill(job)

    # ---- deciding and starting -------------------------------------------------------------------------------------

    def _advance(self) -> datetime | None:
        """Decide on everything that is ready until nothing more follows; when the next one that waits may begin."""
        later: datetime | None = None
        while self.failure is None:
            busy = {attempt.call.name for attempt in self.attempts.values()}
            calls = plan.ready(self.graph.calls, self.done, busy)
            if not calls:
                break
            later, before = None, len(self.done)
            beginning = []
            for call, parts, facts in self._facts(calls):
                decision = plan.decide(facts)
                if decision.action is Action.wait and decision.until is not None:
                    later = min(later or decision.until, decision.until)
                elif decision.action is Action.begin:
                    beginning.append((call, parts, facts, decision))
                else:
                    self._settle(call, parts, facts, decision)
            for one in beginning[: max(0, self.at_once - len(self.attempts))]:
                self._begin(*one)
            if len(self.done) == before:
                break
        return later

    def _facts(self, calls: list[Call]) -> list[tuple[Call, dict[str, Any], Facts]]:
        """What is known about steps whose inputs are all there."""
        parts = {call.name: self.keys.parts(call, self.done) for call in calls}
        keys = {name: run_key(one) for name, one in parts.items()}
        with self.context.store.read() as tx:
            known = {step.name: step for step in steps.of_run(tx, self.run.id)}
            wanted = [keys[call.name] for call in calls if call.cache]
            made = steps.made(tx, self.run.project, wanted)
            now = tx.wall
        found = []
        for call in calls:
            step, key = known[call.name], keys[call.name]
            stored = step.output is not None and values.present(step.output, self.outputs)
            left = None if stored and step.key == key else self._left(call, key)
            others = (one for one in made.get(key, ()) if one.id != step.id and one.output is not None)
            equal = next((one for one in others if values.present(one.output or {}, self.outputs)), None)
            found.append((call, parts[call.name], Facts(step, key, stored, left is not None, equal, now)))
        return found

    def _settle(self, call: Call, parts: Mapping[str, Any], facts: Facts, decision: Decision) -> None:
        """Count a step as made, by what is there already."""
        step, actor = facts.step, self.context.actor
        output = step.output
        if decision.action is not Action.keep:
            with self.context.store.begin() as tx:
                steps.held(tx, self.run, self.fence)
                if decision.reopen is not None:
                    steps.reopen(tx, step, actor=actor, reason=decision.reopen)
                if decision.action is Action.adopt:
                    output = (self._left(call, facts.key) or {})["output"]
                    reason = "its result was there: an attempt had finished it before its worker died"
                    fence = steps.claim(tx, step, key=facts.key, key_parts=parts, owner=actor, reason="taken over")
                    steps.succeed(tx, step, fence, output or {}, actor=actor, reason=reason)
                elif facts.equal is not None:
                    output = facts.equal.output
                    reason = f"nothing it is made from changed since {facts.equal.cached_from or facts.equal.id}"
                    steps.reuse(tx, step, facts.equal, key=facts.key, key_parts=parts, actor=actor, reason=reason)
        self.done[call.name] = output or {}

    def _begin(self, call: Call, parts: dict[str, Any], facts: Facts, decision: Decision) -> None:
        """Claim, then start."""
        step = facts.step
        said = _attempt(call, step.failures + 1)
        with self.context.store.read() as tx:
            earlier = steps.before(tx, step)[:EXPLAINED]
        if step.key_parts is not None and step.key != facts.key:
            earlier.insert(0, step)
        reason = f"{said}: {self._why(call, parts, step, earlier)}"
        with self.context.store.begin() as tx:
            steps.held(tx, self.run, self.fence)
            if decision.reopen is not None:
                steps.reopen(tx, step, actor=self.context.actor, reason=decision.reopen)
            fence = steps.claim(tx, step, key=facts.key, key_parts=parts, owner=self.context.actor, reason=reason)
        spec = self._spec(call, facts.key, said)
        job = self.processes.start(MODULE, spec.write())
        ends_at = time.monotonic() + call.timeout if call.timeout is not None else float("inf")
        self.attempts[job] = Attempt(call, step, fence, facts.key, ends_at)

    def _why(self, call: Call, parts: dict[str, Any], step: Step, earlier: list[Step]) -> str:
        """Why it has to run."""
        if step.failures:
            return "the one before failed"
        if not call.cache:
            return "it is not cached"
        found = step_keys.nearest(parts, earlier, self.outputs)
        if found is None:
            return "it has not run before"
        return f"since {found[0].run} {found[1]}" if found[0].key != run_key(parts) else "it has not finished before"

    # ---- waiting and recording -------------------------------------------------------------------------------------

    def _collect(self, later: datetime | None) -> None:
        """Wait for something to end, to be overdue, or to be allowed another attempt; record what ended."""
        now = time.monotonic()
        soonest = min((one.ends_at for one in self.attempts.values() if not one.overdue), default=float("inf"))
        seconds = min(soonest - now, LONGEST_LOOK)
        if later is not None:
            seconds = min(seconds, (later - self.context.clock.wall()).total_seconds())
        for job, code in self.processes.wait(max(0.0, seconds)).items():
            if (attempt := self.attempts.pop(job, None)) is not None:
                self._ended(attempt, code)
        for job, attempt in self.attempts.items():
            if not attempt.overdue and time.monotonic() >= attempt.ends_at:
                attempt.overdue = True
                self.processes.kill(job)

    def _ended(self, attempt: Attempt, code: int) -> None:
        call, step = attempt.call, attempt.step
        left = self._result(call, attempt.key)
        if left is not None and "output" in left:
            seconds = timedelta(seconds=round(left["seconds"], 3)).total_seconds()
            with self.context.store.begin() as tx:
                steps.held(tx, self.run, self.fence)
                reason = f"finished in {seconds:g} s"
                steps.succeed(tx, step, attempt.fence, left["output"], actor=self.context.actor, reason=reason)
            self.done[call.name] = left["output"]
        elif left is not None and "damaged" in left:
            self._remake(attempt, left["damaged"])
        else:
            self._failed(attempt, code, left)

    def _failed(self, attempt: Attempt, code: int, left: Mapping[str, Any] | None) -> None:
        """Another attempt, where one is allowed; else the walk ends when what runs has ended."""
        call, step, actor = attempt.call, attempt.step, self.context.actor
        if left is not None:
            problem = str(left["failed"])
        elif attempt.overdue:
            problem = f"took longer than {call.timeout:g} s and was stopped with everything it had started"
        else:
            problem = f"{death(code)}; what it printed: trueline logs {self.run.id} --step {call.name}"
        failures = step.failures + 1
        told = f"step {call.name}, {_attempt(call, failures)}: {problem}"
        with self.context.store.begin() as tx:
            steps.held(tx, self.run, self.fence)
            if failures <= call.retries:
                steps.retry(tx, step, attempt.fence, told, actor=actor)
            else:
                steps.fail(tx, step, attempt.fence, told, actor=actor)
                self.failure = self.failure or told

    def _remake(self, attempt: Attempt, digest: str) -> None:
        """An input was damaged: take it away, and have the steps that made it decided on again."""
        self.outputs.discard(digest)
        with self.context.store.begin() as tx:
            steps.held(tx, self.run, self.fence)
            reason = f"a kept output it takes was damaged ({digest[:12]}); that is made again first"
            steps.reopen(tx, attempt.step, actor=self.context.actor, reason=reason)
        for name, tree in list(self.done.items()):
            if any(digest == one for one, _ in values.leaves(tree)):
                del self.done[name]

    def _stale(self) -> bool:
        """Whether a step was made from something that was made again since; such steps are decided on anew."""
        with self.context.store.read() as tx:
            keys = {step.name: step.key for step in steps.of_run(tx, self.run.id)}
        for call in self.graph.calls:
            if run_key(self.keys.parts(call, self.done)) != keys[call.name]:
                del self.done[call.name]
                return True
        return False

    # ---- the files of an attempt -----------------------------------------------------------------------------------

    def _folder(self, call: Call) -> Path:
        return step_folder(self.context.folder.run(self.run.id), call.name)

    def _result(self, call: Call, key: str) -> dict[str, Any] | None:
        """What an attempt with that key left."""
        try:
            found: dict[str, Any] = json.loads(result_file(self._folder(call), key).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return found if found.get("key") == key else None

    def _left(self, call: Call, key: str) -> dict[str, Any] | None:
        """The same, if it is an output that is still there."""
        found = self._result(call, key)
        return found if found and "output" in found and values.present(found["output"], self.outputs) else None

    def _spec(self, call: Call, key: str, attempt: str) -> StepSpec:
        spec = self.prepared.spec
        return StepSpec(
            project=str(spec.project.absolute()),
            entry=spec.entry,
            name=call.name,
            module=call.module,
            function=call.function,
            arguments=call.arguments,
            inputs={name: self.done[name] for name in call.needs},
            rows=str(spec.rows.absolute()),
            contract=contracts.to_dict(spec.contract),
            outputs=str(self.outputs.root.absolute()),
            run=str(spec.folder.absolute()),
            folder=str(self._folder(call).absolute()),
            key=key,
            attempt=attempt,
            seed=spec.seed,
            threads=spec.threads,
        )


def _keys_of(prepared: Prepared, outputs: Outputs) -> Keys:
    """The keys of a run with these rows, in this environment, which is kept to be compared with later."""
    spec, inputs = prepared.spec, prepared.key_parts["inputs"]
    kinds = [(column.name, str(column.kind)) for column in spec.contract.columns]  # floats are cast to what it says
    frame = hashlib.sha256(json.dumps([inputs["rows"], kinds]).encode()).hexdigest()
    around = json.dumps(prepared.key_parts["environment"], sort_keys=True).encode()
    return Keys(Reach(spec.project), frame, outputs.put_bytes(around)[0], spec.seed)


def _planned(numbered: tuple[int, Call]) -> Planned:
    number, call = numbered
    return Planned(call.name, number, call.entry, call.needs, call.retries, call.timeout)


def _attempt(call: Call, number: int) -> str:
    return f"attempt {number} of {call.retries + 1}"
