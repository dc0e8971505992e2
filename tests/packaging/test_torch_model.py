"""PyTorch modules: as ONNX in the server where the proof holds, else in a process of their own."""

from __future__ import annotations

import importlib
import sys
import warnings

import numpy as np
import pytest

from trueline.packaging.executors import load
from trueline.packaging.python_model import Code

pytestmark = pytest.mark.real

MODULES = """
import torch
from torch import nn


class Net(nn.Module):
    columns = ("distance", "wait", "hour")

    def __init__(self, sure=False):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
        self.sure = sure

    def forward(self, x):
        said = self.layers(x)
        return torch.sigmoid(said) if self.sure else said


class Looping(nn.Module):
    columns = ("distance",)

    def forward(self, x):
        rows = []
        for row in x:  # as many steps as there are rows, and a branch on each: nothing an exporter follows
            rows.append(row.sum() * 2 if row.sum().item() > 100 else row.sum())
        return torch.stack(rows)
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is large, and an extra: pip install 'trueline[torch]'")
    (tmp_path / "nets.py").write_text(MODULES)
    monkeypatch.syspath_prepend(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, while it is imported
        yield importlib.import_module("nets")
    sys.modules.pop("nets", None)


def trained(net, rows):
    import torch

    x = torch.tensor(rows.frame.select(net.columns).to_numpy().astype(np.float32))
    net.train()
    net(x[:64])
    return net


def test_a_module_becomes_onnx_in_the_server(pack, nets, rows, tmp_path):
    net = trained(nets.Net(), rows)
    packaged = pack(net, code=Code(tmp_path, ("nets.py",)))
    assert packaged.kind == "onnx", packaged.parity.tried
    assert packaged.parity.executor == "ONNX, exported by PyTorch"
    assert packaged.parity.worst <= 1e-5
    executor = load(packaged.folder, packaged.digest)
    one, many = ({"distance": [99.5] * n, "wait": [3.0] * n, "hour": [4] * n} for n in (1, 33))
    assert executor.in_process
    np.testing.assert_allclose(executor.predict(many), executor.predict(one)[0], rtol=1e-6)


def test_a_classifier_ends_with_its_sigmoid(pack, nets, rows, tmp_path):
    packaged = pack(trained(nets.Net(sure=True), rows), task="classification", code=Code(tmp_path, ("nets.py",)))
    assert packaged.kind == "onnx", packaged.parity.tried
    assert 0 <= load(packaged.folder, None).predict({"distance": [1.0], "wait": [2.0], "hour": [3]})[0] <= 1


def test_a_module_that_cannot_be_exported_runs_in_a_process_of_its_own(pack, nets, tmp_path):
    packaged = pack(nets.Looping(), code=Code(tmp_path, ("nets.py",)))
    assert packaged.kind == "python"
    assert packaged.parity.tried[0].startswith("ONNX, exported by PyTorch: PackagingFailed: it cannot be exported (")
    assert load(packaged.folder, packaged.digest).predict({"distance": [50.0, 150.0]}).tolist() == [50.0, 300.0]
    assert "torch==" in (packaged.folder / "requirements.lock").read_text()
