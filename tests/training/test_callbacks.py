from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
import torch

from gankit.errors import MissingExtraError
from gankit.training import MetricsLog, TensorBoardLog


def test_the_metrics_log_writes_one_object_a_line(make_trainer, batches):
    trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=2)])
    trainer.fit(batches, steps=6)
    rows = [json.loads(line) for line in Path("metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[-1] == trainer.read_metrics()


def test_a_value_that_is_not_finite_becomes_null(make_trainer, batches):
    trainer = make_trainer().fit(batches, steps=1)
    trainer.metrics["generator_loss"] = torch.tensor(float("inf"))
    MetricsLog("metrics.jsonl")(trainer)
    assert json.loads(Path("metrics.jsonl").read_text())["generator_loss"] is None


def test_tensorboard_gets_every_metric_at_its_step(make_trainer, batches, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, step):
            written.append((self.folder, name, value, step))

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    trainer = make_trainer(callbacks=[TensorBoardLog("events", every=3)]).fit(batches, steps=6)
    readings = trainer.read_metrics()
    assert {step for *_, step in written} == {3, 6}
    last = {name: value for _, name, value, step in written if step == 6}
    assert last == {name: value for name, value in readings.items() if name != "step"}


def test_without_tensorboard_it_names_the_extra(make_trainer, batches, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gankit\[tensorboard\]'"):
        make_trainer(callbacks=[TensorBoardLog("events", every=1)]).fit(batches, steps=1)
