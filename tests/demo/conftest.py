from __future__ import annotations

import gzip
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from trueline.demo import flights
from trueline.demo.flights import Flights


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"demo_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fakes = _load("fakes")

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,"
    "origin,dest,air_time,distance,hour,minute,time_hour"
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Eight weeks of a small airline: four flights a day, one of them cancelled every tenth day."""
    lines = [HEADER]
    for day in range(1, 60):
        month, date = (1, day) if day <= 31 else (2, day - 31)
        for number, (dest, miles) in enumerate([("SFO", 2586), ("ORD", 733), ("BOS", 187), ("MIA", 1089)]):
            hour = 6 + 4 * (number // 2)
            minutes = int(miles / 8 + 20 + (day * 7 + number * 3) % 5)
            start, gone = hour * 100 + 15, day % 10 == 0 and number == 0
            landing = (hour * 60 + 15 + minutes + 14) % 1440
            actual = ["NA"] * 3 if gone else [str(start), "0", str(landing // 60 * 100 + landing % 60)]
            air = "NA" if gone else str(minutes)
            known = f"{start},{actual[1]},{actual[2]},0,0,B6,{number},N1,JFK,{dest},{air},{miles},{hour},15,x"
            lines.append(f"2013,{month},{date},{actual[0]},{known}")
    path = tmp_path / "flights.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.fixture
def drawn(table: Path) -> Flights:
    return flights.load(seed=7, size=236, source=table)


@pytest.fixture
def serve() -> Iterator[object]:
    server = fakes.FakeServe()
    yield server
    server.close()


@pytest.fixture
def control() -> object:
    return fakes.FakeControl()
