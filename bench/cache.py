"""noop-pipeline, the decision: whether a training is cached, from the code of ten modules, the environment, and the key.

Each decision is the first one in a fresh process, as in a command. `pipeline.py` measures a run of ten cached steps.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cpu
from figures import Figure, number, tell

MODULES = 10
DECISION = """
import json, sys, time
from pathlib import Path
from trueline.pipelines.closure import closure
from trueline.pipelines.environment import environment
from trueline.pipelines.key import key_parts, run_key

marks = [time.process_time()]
code = closure(Path(sys.argv[1]), "step_0.py:fit")
marks.append(time.process_time())
around = environment(1)
marks.append(time.process_time())
run_key(key_parts(code=code, entry="step_0.py:fit", params={}, inputs={"rows": "0"}, environment=around, seed=0))
marks.append(time.process_time())
assert len(code) == int(sys.argv[2])
print(json.dumps([after - before for before, after in zip(marks, marks[1:])]))
"""


def measure(*, quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="trueline-bench-") as name:
        folder = Path(name)
        _write_modules(folder)
        command = [sys.executable, "-c", DECISION, str(folder), str(MODULES)]
        parts = min((_told(command) for _ in range(1 if quick else 5)), key=sum)
    imports = min(cpu.of_command([sys.executable, "-c", "import sqlalchemy"]) for _ in range(1 if quick else 3))
    total = sum(parts)
    yield Figure(
        claim="the cache decision, first in its process (closure {:.0f}, environment {:.0f}, key {:.1f} ms)".format(
            *(part * 1e3 for part in parts)
        ),
        value=total,
        unit="s CPU",
        against=f"a process that imports SQLAlchemy, {number(imports)} s",
        ratio=total / imports,
        target="≤ 0.03 s",
        holds=total <= 0.03,
        id="noop-pipeline",
    )


def _write_modules(folder: Path) -> None:
    for step in range(MODULES):
        following = f"from step_{step + 1} import fit as after\n" if step + 1 < MODULES else ""
        body = "".join(f"    x{line} = sum(value * {line} for value in range(10))\n" for line in range(30))
        (folder / f"step_{step}.py").write_text(
            f"import json\n{following}\n\ndef fit(frame):\n{body}    return frame\n"
        )


def _told(command: list[str]) -> list[float]:
    return list(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))


if __name__ == "__main__":
    tell(measure, __doc__)
