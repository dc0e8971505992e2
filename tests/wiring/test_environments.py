"""From dev to prod: the same model byte for byte, judged by each target's own gate and people."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trueline.control import events
from trueline.domain.verdicts import Verdict
from trueline.errors import Conflict, InvalidInput, InvalidProject, NotAllowed, NotFound
from trueline.settings import StateFolder
from trueline.storage import trees
from trueline.store import tables
from trueline.wiring import open_context, open_services
from trueline.wiring.difference import difference
from trueline.wiring.environments import promote

PROJECT = """\
version: 1
project: world
data: {source: rows.csv, target: y, time: at}
train: model.py:fit
targets:
  dev: {}
  staging: {gates: {approve: {by: [ada, bob], count: 1}}}
  prod: {gates: {quality: {metric: mae, max: 0.001}}}
"""

MODEL = """\
from sklearn.linear_model import LinearRegression

def fit(frame):
    return LinearRegression().fit(frame.select("x"), frame["y"])
"""


@dataclass
class Place:
    """A project with three targets, worked on without servers."""

    file: Path

    @property
    def state(self):
        return StateFolder(self.file.parent / ".trueline")

    def train(self, target):
        with self.services(target) as services:
            run = services.start_run(fit=None, params={}, source=None, release=True, reason="asked for", actor="ada")
            services.work_until_idle()
            return services.run(run.id).version

    def services(self, target):
        return _Closing(open_services(self.file, self.state.of(target).root, target))

    def promote(self, source, destination=None, version=None):
        done = promote(
            self.file,
            self.state,
            source=source,
            destination=destination,
            version=version,
            actor="ada",
            reason="good",
        )
        with self.services(done.destination) as services:
            services.work_until_idle()
            return done, services.run(done.run)


@dataclass
class _Closing:
    services: object

    def __enter__(self):
        return self.services

    def __exit__(self, *_):
        self.services.close()


def write_rows(path, rows=900):
    rng = np.random.default_rng(1)
    x = rng.normal(size=rows)
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(rows)]
    pl.DataFrame({"at": moments, "x": x, "y": 3 * x + rng.normal(size=rows)}).write_csv(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project whose dev serves version 1."""
    folder = tmp_path_factory.mktemp("targets")
    (folder / "trueline.yaml").write_text(PROJECT)
    (folder / "model.py").write_text(MODEL)
    write_rows(folder / "rows.csv")
    place = Place(folder / "trueline.yaml")
    assert place.train("dev") == 1
    return folder


@pytest.fixture
def place(trained, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("sockets"))
    return Place(folder / "trueline.yaml")


def test_the_same_bytes_are_judged_and_approved_again(place):
    promotion, run = place.promote("dev")
    assert (promotion.source, promotion.destination, promotion.version, promotion.already) == (
        "dev",
        "staging",
        1,
        False,
    )
    with place.services("staging") as services:
        version = services.version(run.version)
        assert version.digest == promotion.digest
        assert version.waiting == "waits for 1 of these to approve: ada, bob"
        assert services.status().champion is None
        services.approve(run.version, reason="looked at it", actor="bob")
        services.work_until_idle()
        assert services.status().champion == run.version
        sentences = [link.sentence for link in services.why(str(run.version)).links]
        assert any("version 1 of dev" in sentence for sentence in sentences)
    served = place.state.of("staging").run(run.id) / "model"
    assert trees.digest(served) == promotion.digest
    assert list(place.state.of("staging").imports.iterdir()) == []
    told = difference(place.file, place.state, "dev", "staging")
    assert told.same_champion
    assert told.serves[0].dataset == told.serves[1].dataset
    assert {one.key: (one.left, one.right) for one in told.settings}["gates.approve.count"] == ("0", "1")


def test_to_compare_puts_no_project_file_in_force(place):
    """A server may be running there with the file as it was."""
    place.file.write_text(place.file.read_text() + "monitor: {}\n")
    difference(place.file, place.state, "dev", "prod")
    context = open_context(place.file, place.state.of("dev").root, target="dev", looking=True)
    with context.store.read() as tx:
        assert len(events.after(tx, "world", 0, kind="project.set")) == 1
    context.store.close()


def test_no_password_of_the_project_file_is_in_the_log(tmp_path):
    urls = [
        "https://ann:s3cret@mlflow.acme",
        "'https://s3cret@mlflow.acme'",
        "https://ann:s3 cret@m ",
        "https://m?token=s3cret",
    ]
    for number, url in enumerate(urls):
        (tmp_path / "trueline.yaml").write_text(
            f"version: 1\nproject: world\ndata: {{source: rows.csv, target: y}}\ntrain: model.py:fit\ntracking: {url}\n"
        )
        context = open_context(tmp_path / "trueline.yaml")
        with context.store.read() as tx:
            texts = [event.detail["file"] for event in events.after(tx, "world", 0)]
            texts.append(tx.execute(tables.projects.select()).one().file)
        context.store.close()
        assert not [text for text in texts if "cret" in text]
        assert "project: world" in texts[number]


@pytest.mark.parametrize("ref", ["²", "v²", "v" + "9" * 30])
def test_why_of_what_is_no_number_is_not_found(place, ref):
    with place.services("dev") as services, pytest.raises(NotFound, match=ref):
        services.why(ref)


def test_asking_again_finds_the_same_run(place):
    first, _ = place.promote("dev")
    again, run = place.promote("dev")
    assert again.already
    assert (again.run, run.version) == (first.run, 1)


def test_killed_before_the_run_was_written_asking_again_goes_on(place, monkeypatch):
    from trueline.control import promotions

    with monkeypatch.context() as patch:
        patch.setattr(promotions, "request", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            place.promote("dev")
    assert len(list(place.state.of("staging").imports.iterdir())) == 1
    assert place.promote("dev")[1].version == 1


def test_each_target_has_its_own_bar(place):
    _, run = place.promote("dev")
    with place.services("staging") as services:
        services.approve(run.version, reason="looked at it", actor="ada")
        services.work_until_idle()
    _, run = place.promote("staging")
    with place.services("prod") as services:
        gate = services.gates(version=run.version, limit=1, after=None)[0]
        assert gate.verdict == Verdict.failed
        assert "mae" in gate.reason
        assert services.status().champion is None


def test_no_target_is_skipped_and_none_is_gone_back_to(place):
    with pytest.raises(NotAllowed, match="after dev comes staging, then prod: promote to staging first"):
        place.promote("dev", "prod")
    with pytest.raises(InvalidInput, match="dev does not come after staging"):
        place.promote("staging", "dev")
    with pytest.raises(InvalidInput, match="prod is the last target: base → dev → staging → prod"):
        place.promote("prod")
    with pytest.raises(InvalidInput, match="there is no target prd"):
        place.promote("dev", "prd")


def test_what_was_not_approved_stays(place):
    _, run = place.promote("dev")
    with pytest.raises(NotAllowed, match=r"version 1 of staging is candidate \(waits for 1 of these to approve"):
        place.promote("staging", version=run.version)
    with pytest.raises(Conflict, match="nothing serves in staging yet; say which version"):
        place.promote("staging")
    with pytest.raises(NotFound, match="nothing has run in prod yet"):
        promote_from_nothing(place)


def promote_from_nothing(place):
    from trueline.wiring.environments import existing

    with existing(place.file, place.state, "prod"):
        pass


def test_a_model_changed_after_its_gate_goes_nowhere(place):
    with place.services("dev") as services:
        run = services.version(1).run
    model = next((place.state.of("dev").run(run) / "model").glob("model.*"))
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(Exception, match="it was changed after it was judged"):
        place.promote("dev")
    assert list(place.state.of("staging").imports.glob("sha256*")) == []


def test_two_targets_do_not_share_a_database(place):
    shutil.copytree(place.state.of("dev").root, place.state.of("prod").root)
    with pytest.raises(InvalidProject, match="holds project world of dev, not of prod; give each target a database"):
        open_context(place.file, place.state.of("prod").root, target="prod")


def test_with_a_shared_storage_a_version_goes_on_between_machines(tmp_path):
    """Who promotes, and the worker that takes over, find nothing of each other's in their state folders."""
    (tmp_path / "trueline.yaml").write_text(f"{PROJECT}storage: shared\n")
    (tmp_path / "model.py").write_text(MODEL)
    write_rows(tmp_path / "rows.csv")
    place = Place(tmp_path / "trueline.yaml")
    assert place.train("dev") == 1
    shutil.rmtree(place.state.of("dev").root / "runs")
    promotion = promote(
        place.file,
        place.state,
        source="dev",
        destination="staging",
        version=1,
        actor="ada",
        reason="good",
    )
    shutil.rmtree(place.state.of("staging").imports)
    with place.services("staging") as services:
        services.work_until_idle()
        version = services.run(promotion.run).version
        assert services.version(version).digest == promotion.digest
    assert trees.digest(place.state.of("staging").run(promotion.run) / "model") == promotion.digest
    places = sorted(path.name for path in (tmp_path / "shared" / "world").iterdir())
    assert places == ["dev", "staging"]
