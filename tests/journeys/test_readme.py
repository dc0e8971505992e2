"""The README's first ten minutes, command by command, as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from journey import START, Desk, Up

from real import need

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
ANSWERED = "r0-660bc5746542e.1.0-1-0"

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    # MLflow 3.17 on SQLAlchemy 2.1
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]


def blocks(language: str) -> list[str]:
    section = README.read_text().split("## The first ten minutes")[1].split("\n## ")[0]
    return [text for found, text in BLOCK.findall(section) if found == language]


def commands() -> list[str]:
    """Each command of the section, on one line, without its remark."""
    joined = "\n".join(blocks("bash")).replace("\\\n", " ")
    lines = (re.sub(r"\s+#\s.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def churn(rows: int = 3600) -> pl.DataFrame:
    """Sixty days of customers; from the twenty-second on, it is those of the other plan who leave."""
    rng = np.random.default_rng(3)
    usage, plan = rng.random(rows), rng.choice(["basic", "pro"], rows)
    days = np.arange(rows) * 60 / rows
    turned = np.where(days < 22, plan == "pro", plan == "basic")
    chance = 1 / (1 + np.exp(-(6 * usage - 5 + 4 * turned)))
    return pl.DataFrame(
        {
            "at": [(START + timedelta(days=day)).replace(tzinfo=None, microsecond=0) for day in days.tolist()],
            "customer_id": [f"c{number % 500}" for number in range(rows)],
            "usage": usage.round(4),
            "plan": plan,
            "churned": (rng.random(rows) < chance).astype(int),
        }
    )


@pytest.fixture(scope="module")
def desk(new_desk) -> Desk:
    made = new_desk("my-project", seeded=True)
    churn().write_csv(made.folder / "churn.csv")
    return made


def test_what_it_says_is_what_happens(desk):
    """In order: what is typed, with what it gives back; the second terminal's `trueline up` goes on to the end."""
    need(shutil.which("curl"), "curl")
    ran: list[str] = []
    up: Up | None = None
    known: str | None = None
    for command in commands():
        ran.append(command.split()[0] if command.startswith("curl") else " ".join(command.split()[:2]))
        if command.startswith("pip "):
            continue
        if command == "trueline up":
            up = desk.up()
            continue
        said = typed(desk, meant(command, known, up))
        if command.startswith("trueline init"):
            desk.name_database()
        if "/predict" in command:
            told = json.loads(said)
            promised = json.loads(blocks("json")[0])
            assert told.keys() == promised.keys()
            assert promised["prediction_ids"] == [ANSWERED]
            known = told["prediction_ids"][0]
        if "/labels" in command:
            assert json.loads(said)["accepted"] == 1
        if command.startswith("trueline replay"):
            assert "the first retrained model went out on" in said
    assert ran == [
        "pip install",
        "trueline init",
        "trueline doctor",
        "trueline run",
        "trueline why",
        "trueline replay",
        "trueline up",
        "curl",
        "curl",
        "trueline status",
        "trueline why",
        "trueline events",
    ]
    assert up is not None
    assert up.stop()[0] == 0


def test_the_facts_it_shows_are_those_that_init_writes(desk):
    shown = yaml.safe_load(blocks("yaml")[0])
    written = yaml.safe_load((desk.folder / "trueline.yaml").read_text())
    shown["project"] = written["project"]
    assert written.pop("database", None) == desk.database
    assert written == shown


def meant(command: str, known: str | None, up: Up | None) -> str:
    """The line with this server's port and the id that it gave."""
    here = command if up is None else command.replace("localhost:7078", up.serve.removeprefix("http://"))
    return here if known is None else here.replace(ANSWERED, known)


def typed(desk: Desk, command: str) -> str:
    """Run one line in the project's folder as a shell would; what it printed."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=desk.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout
