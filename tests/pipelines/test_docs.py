"""The page about pipelines is true: its example runs, is cached, and says what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from trueline.client import Client
from trueline.settings import StateFolder

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_the_example_trains_and_tells_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(block("python"))
    (tmp_path / "trueline.yaml").write_text(
        f"version: 1\nproject: example\ndata: {{source: rows.csv, target: y}}\n{block('yaml')}"
    )
    draw = np.random.default_rng(0)
    x = draw.normal(size=200)
    rows = "".join(f"{one},{2 * one + noise}\n" for one, noise in zip(x, draw.normal(size=200), strict=True))
    (tmp_path / "rows.csv").write_text(f"x,y\n{rows}")
    with Client.local(tmp_path / "trueline.yaml", StateFolder(tmp_path / ".trueline")) as client:
        first = client.start_run(release=False)
        client.settle()
        assert client.run(first.id).version == 1, client.run(first.id).error
        assert [step.name for step in client.steps(first.id).items] == ["split", "linear", "forest", "choose"]
        assert "scores [" in "".join(one.text for one in client.logs(first.id, step="choose").items)
        code = (tmp_path / "pipeline.py").read_text()
        (tmp_path / "pipeline.py").write_text(code.replace("Ridge(alpha).fit", "Ridge(10 * alpha).fit"))
        second = client.start_run(release=False)
        client.settle()
        told = client.why_cached(second.id)
        said = {one.id: f"└ {one.id} {one.sentence}" for one in told.steps}
        shown = block("console").splitlines()
        assert shown[2] == said["run-2:split"]
        assert shown[3] == said["run-2:linear"]
        assert said["run-2:forest"].endswith("nothing it is made from changed since run-1:forest")
        if told.cached:
            assert told.sentence == "not trained again: run-1 has the same key"
        else:
            assert shown[1] == f"run-2 {told.sentence}"
