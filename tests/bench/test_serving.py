"""How the benchmark of model servers keeps itself honest. What it measures is never tested: the machine is shared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import contest
import endpoints
import models
import peers
import scores
import serving
import wrk
from contest import BARE, BY_HAND, LIBRARY, NATIVE, SERVED, Entrant, Plan
from peers import PEERS, environments
from scores import Score
from servers import Script, Server

BENCH = Path(__file__).parents[2] / "bench"
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
RATES = {SERVED: 30_000.0, NATIVE: 10_000.0, BARE: 100_000.0, LIBRARY: 20_000.0, BY_HAND: 1_000.0}


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return models.subject("logistic regression", tmp_path_factory.mktemp("subject"), quick=True)


@pytest.fixture
def plan(tmp_path):
    return Plan(("logistic regression",), (), tmp_path, rounds=1, seconds=0.2, generator=wrk.OWN, quick=True)


def pins(path: Path) -> dict[str, str]:
    return dict(line.split("==") for line in path.read_text().split() if "==" in line)


@pytest.mark.parametrize("name", sorted({peer.environment for peer in PEERS}))
def test_a_peer_serves_with_the_libraries_that_the_model_was_fitted_with(name):
    wanted, ours = pins(environments.REQUIREMENTS / f"{name}.txt"), pins(CONSTRAINTS)
    assert {library: wanted[library] for library in ("scikit-learn", "numpy", "scipy", "joblib")} == {
        library: ours[library] for library in ("scikit-learn", "numpy", "scipy", "joblib")
    }


def test_every_peer_says_how_it_is_run_and_where_that_is_explained():
    assert all(peer.settings and peer.docs for peer in PEERS)
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_a_peer_that_cannot_be_installed_is_reported_and_has_no_numbers(subject, plan, tmp_path, monkeypatch):
    (tmp_path / "ray.txt").write_text("ray==2.60.0\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "PIP_OPTIONS", ("--no-index", "--find-links", str(tmp_path)))
    peer = next(peer for peer in PEERS if peer.environment == "ray")
    entrant = contest.entrant_of(peer, subject, plan.cache)
    (score,) = contest.results(entrant, subject)
    assert score.rate is None
    assert score.note.startswith("not measured: ray could not be installed: ")
    assert "ray==2.60.0" in score.note


def test_an_environment_is_used_again_until_its_list_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "PIP_OPTIONS", ("--no-index",))
    (tmp_path / "nothing.txt").write_text("")
    first = environments.python_of("nothing", tmp_path / "cache", requirements=tmp_path)
    left = first.parents[1] / "left"
    left.touch()
    assert environments.python_of("nothing", tmp_path / "cache", requirements=tmp_path) == first
    assert left.exists()
    assert environments.folder_of("nothing", "numpy==2.4.6\n", tmp_path / "cache") != first.parents[1]


def test_a_server_that_answers_something_else_than_the_model_is_not_measured(subject, plan):
    echo = Entrant("echo", lambda _: Script("echo.py").start(), (replace(endpoints.ECHO),))
    contest.one_round(echo, subject, plan)
    (score,) = contest.results(echo, subject)
    assert score.rate is None
    assert "256 of 256 answers are wrong" in score.note


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(subject, plan):
    ended = Entrant("ended", lambda _: Server(["-c", "raise SystemExit('no model')"], port=1), (endpoints.ECHO,))
    contest.one_round(ended, subject, plan)
    (score,) = contest.results(ended, subject)
    assert "no model" in score.note


def test_the_limit_is_measured_over_both_numbers_of_connections(subject, plan):
    echo = Entrant(BARE, lambda _: Script("echo.py").start(), (endpoints.ECHO,))
    contest.one_round(echo, subject, plan)
    (score,) = contest.results(echo, subject)
    numbers = (score.rate, score.p50_alone, score.p99_alone, score.p50, score.p99, score.memory, score.start)
    assert all(number is not None and number > 0 for number in numbers)
    assert scores.parse(scores.line(score)).server == BARE
    assert scores.is_score(scores.line(score))


@pytest.mark.parametrize("endpoint", [endpoints.MLSERVER, endpoints.TRUELINE_OPEN], ids=["MLServer", "trueline"])
def test_open_inference_is_asked_with_one_tensor(endpoint):
    body = json.loads(json.dumps(endpoint.body([0.5] * 30)))
    assert body["inputs"] == [{"name": "rows", "shape": [1, 30], "datatype": "FP32", "data": [0.5] * 30}]


def test_there_is_a_verdict_against_the_best_peer_only_when_all_were_measured(plan):
    def verdicts(measured: dict[str, float]) -> list[bool | None]:
        found = [Score(name, models.BOOSTING, "/predict", rate) for name, rate in measured.items()]
        figures = serving.throughput(found, 100.0, replace(plan, peers=PEERS))
        return [figure.holds for figure in figures if figure.target and "best peer" in figure.target]

    rates = {**RATES, **{peer.name: 1_500.0 for peer in PEERS}}
    assert verdicts(rates) == [True, True]
    assert verdicts({**rates, PEERS[0].name: 2_500.0}) == [False, False]
    del rates[PEERS[-1].name]
    assert verdicts(rates) == [None, None]


def test_the_page_names_every_file_and_the_peers_are_a_module():
    page = (BENCH / "README.md").read_text()
    assert [path.name for path in BENCH.glob("*.*") if f"`{path.name}`" not in page and path.name != "README.md"] == []
    assert peers.HERE == BENCH / "peers"
