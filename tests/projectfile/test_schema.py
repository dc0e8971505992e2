"""The JSON Schema and the reader say the same of a file, as far as a schema can."""

import json
from dataclasses import MISSING
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trueline import projectfile
from trueline.domain.project import Step
from trueline.errors import InvalidProject
from trueline.projectfile import kinds, quantities
from trueline.projectfile.keys import PROJECT, groups, walk
from trueline.projectfile.reading import tree
from trueline.projectfile.schema import schema
from trueline.projectfile.strategy import STRATEGY

ROOT = Path(__file__).parents[2]
SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FACTS = {"version": 1, "project": "p", "data": {"source": "a.csv", "target": "y"}, "train": "model.py:fit"}
PLACES = {place.dotted: place for place in walk()}
FREE = [name for name in PLACES if name not in ("version", "targets")]

BEYOND = ("stages that end in full", "one shadow at most", "at most as many approvals", "each name once")
"""What JSON Schema has no words for: order, growth, one list's length against a number."""


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("path", sorted(path.relative_to(ROOT) for path in (ROOT / "demo").rglob("trueline*.yaml")))
def test_each_file_of_the_repository_passes(path):
    VALIDATOR.validate(yaml.safe_load((ROOT / path).read_text()))
    projectfile.load(ROOT / path)


def nested(dotted, value):
    for name in reversed(dotted.split(".")):
        value = {name: value}
    return value


def merged(base, extra):
    both = dict(base)
    for name, value in extra.items():
        inner = both.get(name)
        both[name] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


def refusal(document):
    """What the reader says against a document; None when it takes it."""
    try:
        projectfile.parse(yaml.safe_dump(document, allow_unicode=True))
    except InvalidProject as wrong:
        return str(wrong)
    return None


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [
        {"gates": {"qualty": {}}},
        {"gates": {"holdout": 7}},
        {"gates": {"quality": {"by": "5"}}},
        {"gates": []},
        {"release": {"guards": {"errors": "1x"}}},
        {"release": {"strategy": ["bluegreen"]}},
        {"release": {"strategy": [{"canary": ["10%"]}]}},
        {"retrain": {"rehearse": "0d"}},
        {"monitor": {"false_alarms": "1 per 1d"}},
        {"contract": {"personal": "tail"}},
        {"task": "clustering"},
        {"params": 3},
        {"tune": {}},
        {"data": {"source": ""}},
        {"database": 3},
    ],
)
def test_a_wrong_file_fails(wrong, overlay):
    document = FACTS | {"targets": {"prod": wrong}} if overlay else merged(FACTS, wrong)
    assert not VALIDATOR.is_valid(document)
    assert refusal(document) is not None or wrong == {"database": 3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"train": None},
        {"gates": {"quality": {"metric": "mae"}}},
        {"gates": {"quality": {"min": 0.5}}},
        {"gates": {"approve": {"count": 1}}},
        {"gates": {"approve": {"by": ["ann", "ann"]}}},
        {"task": "regression", "gates": {"quality": {"metric": "roc_auc", "min": 0.8}}},
        {"targets": {"prod": {"project": "other"}}},
        {"targets": {"a b": {}}},
    ],
)
def test_rules_between_keys_are_in_the_schema(wrong):
    document = merged(FACTS, wrong)
    assert not VALIDATOR.is_valid(document)
    assert refusal(document) is not None


ODD = ["5%", "0%", "101%", "100%", "0.5%", "2x", "1x", "1.0x", "1.5x", "0x", "1001x", "7d", "0d", "0.0h", "1 per 365d"]
ODD += ["1 per 1w", "off", "weekly", "full", "", "  ", "env:A", "a b", "champion", "roc_auc", "mae", "regression", None]
ODD += [
    True,
    False,
    0,
    1,
    2,
    -1,
    0.05,
    0.5,
    0.99,
    1.5,
    1000,
    1001,
    1e300,
    [],
    ["a"],
    ["a", "a"],
    {},
    {"a": 1},
    ["full"],
]
ODD += [
    [{"canary": ["10%", 0.5]}, "full"],
    [{"shadow": "1h"}, "full"],
    [{"canary": ["50%", "10%"]}, "full"],
    ["full"] * 2,
]


def written(place):
    """What may stand under a key: anything odd, and what the patterns of its schema allow."""
    said = place.key.kind.schema
    patterns = [one["pattern"] for one in [said, *said.get("anyOf", [])] if "pattern" in one]
    return st.sampled_from(ODD) | st.one_of([st.from_regex(p, alphabet=PRINTED) for p in patterns])


PRINTED = st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs"))
documents = st.fixed_dictionaries({}, optional={name: written(PLACES[name]) for name in FREE}).map(
    lambda chosen: [nested(name, value) for name, value in chosen.items()]
)


def whole(parts):
    document = dict(FACTS)
    for part in parts:
        document = merged(document, part)
    return document


@settings(deadline=None, max_examples=60)
@given(documents)
def test_what_the_schema_accepts_the_reader_reads(parts):
    document = whole(parts)
    if VALIDATOR.is_valid(document):
        said = refusal(document)
        assert said is None or any(reason in said for reason in BEYOND), said


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FREE).flatmap(lambda name: st.tuples(st.just(name), written(PLACES[name]))), st.booleans())
def test_it_is_so_for_each_key_alone_and_in_overlays(one, overlay):
    name, value = one
    part = nested(name, value)
    document = FACTS | {"targets": {"prod": part}} if overlay and name != "project" else merged(FACTS, part)
    if VALIDATOR.is_valid(document):
        said = refusal(document)
        told = ("metric beside it", "min or max beside it", "is missing") if overlay else ()
        assert said is None or any(reason in said for reason in (*BEYOND, *told)), said


texts = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1).map(str.strip).filter(bool)
shares = st.integers(1, 10_000).map(lambda n: n / 10_000)
spans = st.integers(0, 10**7).map(lambda n: timedelta(seconds=n))
days = st.integers(2, 9000).map(lambda n: timedelta(days=n))


def strategies(hours, weights):
    shadow = [] if hours is None else [Step("shadow", 0.0, hours)]
    return (*shadow, *(Step("canary", weight) for weight in sorted(weights)), Step("full", 1.0))


VALUES = [
    (kinds.TEXT, texts),
    (kinds.ENGINE, texts),
    (kinds.NAME, st.from_regex("[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)),
    (kinds.BOOLEAN, st.booleans()),
    (kinds.TEXTS, st.lists(texts, max_size=3).map(tuple)),
    (quantities.SHARE, shares),
    (quantities.RATIO, st.integers(1001, 1_000_000).map(lambda n: n / 1000)),
    (quantities.SPAN, spans),
    (quantities.CADENCE, st.none() | st.integers(1, 9000).map(lambda n: timedelta(hours=n))),
    (quantities.BUDGET, days),
    (kinds.PARAMETERS, st.dictionaries(texts, st.integers() | texts | st.booleans() | st.lists(texts), max_size=3)),
    (STRATEGY, st.builds(strategies, st.none() | spans, st.lists(shares.filter(lambda share: share < 1), max_size=3))),
]


@pytest.mark.parametrize(("kind", "drawn"), VALUES, ids=[kind.expects for kind, _ in VALUES])
def test_what_is_written_reads_back_as_it_was_and_passes_the_schema(kind, drawn):
    @settings(deadline=None, max_examples=60)
    @given(drawn)
    def back(value):
        line = f"key: {kind.show(value) if kind is not kinds.ENGINE else kinds.scalar(value)}\n"
        read = kind.read(tree(line, "file").find("key"))
        assert read == (pytest.approx(value) if isinstance(value, float) else value)
        jsonschema.validate(yaml.safe_load(line)["key"], kind.schema, jsonschema.Draft202012Validator)

    back()


@pytest.mark.parametrize("place", PLACES.values(), ids=lambda place: place.dotted)
def test_a_default_is_what_reading_it_gives(place):
    """So that an explained default may be copied into the file and changes nothing."""
    if place.default is MISSING or place.default is None:
        return
    line = f"key: {place.key.kind.show(place.default)}\n"
    assert place.key.kind.read(tree(line, "file").find("key")) == place.default


def test_every_key_and_mapping_says_what_it_is_for():
    said = [place.key.help for place in PLACES.values()] + [group.help for _, group in groups(PROJECT)]
    assert all(help_.endswith(".") and "\n" not in help_ for help_ in said)
