"""The four facts of a project, settled one after another: what the caller says, else what is seen, else what he answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from trueline.cli import guessing, looking, starter
from trueline.cli.guessing import Column, Guess, Unclear
from trueline.cli.starter import Line
from trueline.errors import InvalidData, InvalidInput
from trueline.projectfile.kinds import scalar

STARTER = "model.py:fit"
SHOWN = 8


@dataclass(frozen=True)
class Asked:
    """What the caller said; None is for init to find out."""

    source: str | None
    target: str | None
    time: str | None
    entity: str | None
    train: str | None


@dataclass
class Looked:
    """What was seen in the folder, and what is said about it."""

    root: Path
    asking: bool
    functions: list[looking.Function]
    scripts: list[looking.Script]
    models: list[looking.LoggedModel]
    notes: list[str] = field(default_factory=list)

    def decide(self, key: str, said: str | None, found: guessing.Found) -> Guess:
        """What the caller said, else the guess; of several the one that is chosen when somebody can be asked."""
        if said is not None:
            return Guess(said, "")
        if isinstance(found, Guess):
            return found
        shown = ", ".join(found.candidates[:SHOWN]) + (" and others" if len(found.candidates) > SHOWN else "")
        if not self.asking:
            raise InvalidInput(f"{found.why}: {shown}; choose with --{key}")
        return Guess(_ask(key, found), "chosen from several")


@dataclass(frozen=True)
class Facts:
    """The four facts, each with why."""

    columns: Sequence[Column]
    source: Guess
    target: Guess
    time: Guess
    entity: Guess
    entry: Guess
    logged: looking.LoggedModel | None

    @classmethod
    def find(cls, looked: Looked, asked: Asked) -> Facts:
        """Look at the data once and settle one fact after another.

        Raises:
            InvalidInput: a fact is missing and cannot be guessed.
            InvalidData: the data cannot be read, or has no such column.
        """
        source = looked.decide("source", asked.source, guessing.source(looking.data_files(looked.root)))
        if source.chosen is None:
            raise InvalidInput(f"{source.why}; put one here, or name it with --source")
        frame = looking.sample(looked.root, source.chosen)
        seen = guessing.columns(frame)
        _check(asked, source.chosen, {column.name: column for column in seen})
        entry = _entry(looked, asked)
        logged = _logged(looked, frame.columns)
        free = [column for column in seen if column.name != asked.target]
        time = looked.decide("time", asked.time, guessing.time([one for one in free if one.name != asked.entity]))
        entity = looked.decide("entity", asked.entity, guessing.entity(free, (time.chosen,)))
        said = next(
            (name for name in looking.named_target(looked.root, entry.chosen or "") if name in frame.columns), None
        )
        target = looked.decide(
            "target", asked.target, guessing.target(seen, (time.chosen, entity.chosen), logged, said)
        )
        if target.chosen is None:
            raise InvalidInput(f"{target.why} in {source.chosen}; name the column to predict with --target")
        return cls(seen, source, target, time, entity, entry, logged)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def train(self) -> str:
        return self.entry.chosen or STARTER

    @property
    def classes(self) -> bool:
        """Whether the target is one of two values, which is what trueline takes for classes."""
        return next(column.different for column in self.columns if column.name == self.target.chosen) == 2

    def guesses(self) -> dict[str, dict[str, str | None]]:
        every = {"source": self.source, "target": self.target, "time": self.time, "entity": self.entity}
        return {name: {"value": one.chosen, "why": one.why} for name, one in (every | {"train": self.entry}).items()}

    def data(self) -> list[Line]:
        facts = (("source", self.source), ("target", self.target), ("time", self.time), ("entity", self.entity))
        return [Line(key, scalar(one.chosen) if one.chosen else None, one.why) for key, one in facts]

    def rest(self) -> list[Line]:
        why = self.entry.why if self.entry.chosen else "a first model, written by init; make it yours"
        lines = [Line("train", scalar(self.train), why)]
        if self.logged is not None and self.logged.classifies is not None and self.logged.classifies != self.classes:
            task = "classification" if self.logged.classifies else "regression"
            lines.append(Line("task", task, f"what the MLflow model in {self.logged.path} does"))
        return lines

    def model(self) -> str:
        """A first model: of the columns that an MLflow model takes, or of all that could be of use."""
        taken = {self.target.chosen, self.time.chosen, self.entity.chosen}
        left = [
            name
            for name in self.names
            if self.logged is not None and self.logged.inputs and name not in self.logged.inputs
        ]
        dates = [column.name for column in self.columns if column.holds == "time"]
        out = [
            name
            for name in self.names
            if name != self.target.chosen and (name in taken or name in left or name in dates)
        ]
        return starter.model_file(target=self.target.chosen or "", leave_out=out, classification=self.classes)


def _entry(looked: Looked, asked: Asked) -> Guess:
    """The function that trains; what stands in the way of one is noted."""
    if asked.train is not None:
        code, _, function = asked.train.partition(":")
        if not code.endswith(".py") or not function.isidentifier():
            raise InvalidInput(f"--train {asked.train!r} should read file.py:function, for example model.py:fit")
        return Guess(asked.train, "")
    found = guessing.train(looked.functions)
    for script in looked.scripts if found.chosen is None else ():
        looked.notes.append(
            f"{script.path}:{script.line} trains where it stands ({script.call}); put that into a function that takes the "
            f"rows and returns the model, as `def fit(frame): …`, and write train: {script.path}:fit"
        )
    if found.chosen is None and (looked.root / STARTER.partition(":")[0]).exists():
        looked.notes.append(
            "model.py is there and stays as it is, but no function in it takes the rows and returns a model; "
            "write `def fit(frame): …` in it, or name another under train"
        )
    return found


def _logged(looked: Looked, names: Sequence[str]) -> looking.LoggedModel | None:
    """The one MLflow model that fits the table."""
    fitting = [model for model in looked.models if model.inputs and set(model.inputs) <= set(names)]
    if len(fitting) != 1:
        for model in looked.models:
            why = "several fit the data" if fitting else "its columns are not those of the data"
            looked.notes.append(
                f"the MLflow model in {model.path} was not used: {why if model.inputs else 'no signature'}"
            )
        return None
    model = fitting[0]
    made = f"{model.flavor}; {', '.join(model.requirements[:3])}" if model.requirements else model.flavor
    looked.notes.append(
        f"the MLflow model in {model.path} ({made}) says which columns are features; the model itself is not taken over: "
        "trueline trains its own, so that it knows from what"
    )
    return model


def _check(asked: Asked, source: str, seen: Mapping[str, Column]) -> None:
    for option, column in (("target", asked.target), ("time", asked.time), ("entity", asked.entity)):
        if column is not None and column not in seen:
            raise InvalidData(f"--{option}: there is no column {column!r} in {source}; it has {', '.join(seen)}")
    if asked.time is not None and (found := seen[asked.time]).holds != "time":
        raise InvalidData(
            f"--time: {found.name} holds no dates (it begins with {found.first!r}); write them as 2026-01-31"
        )
    if asked.target is not None and (found := seen[asked.target]).different > 2 and found.holds in ("text", "time"):
        raise InvalidData(
            f"--target: {found.name} has {found.different} different values that are no numbers; "
            "a regression needs numbers, a classification two values"
        )


def _ask(key: str, found: Unclear) -> str:
    """One of several, chosen by its number or its name."""
    click.echo(f"{found.why}:", err=True)
    for number, candidate in enumerate(found.candidates, 1):
        click.echo(f"  {number}  {candidate}", err=True)
    numbers = {str(number): candidate for number, candidate in enumerate(found.candidates, 1)}
    choice = click.Choice([*numbers, *found.candidates])
    said = click.prompt(key, type=choice, show_choices=False, err=True)
    return numbers.get(said, said)
