"""What `Launch` reads from torchrun's environment."""

from __future__ import annotations

import pytest
import torch

from gankit.errors import (
    BadValueError,
    DeviceError,
)
from gankit.training import Launch


def test_an_environment_that_is_not_whole_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadValueError, match="got an environment without LOCAL_RANK, MASTER_ADDR, MASTER_PORT"):
        Launch()


@pytest.mark.parametrize(
    ("size", "local", "words"),
    [
        (1, 1, "gankit"),
        (2, 2, "torchrun --nproc-per-node 2 -m gankit"),
        (16, 8, "torchrun --nnodes 2 --nproc-per-node 8 -m gankit"),
    ],
)
def test_the_launcher_knows_the_command_that_started_it(size, local, words, monkeypatch):
    names = {"RANK": 0, "LOCAL_RANK": 0, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}
    for name, value in (names | {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": local}).items():
        monkeypatch.setenv(name, str(value))
    assert " ".join(Launch().command) == words


def test_without_a_launcher_there_is_one_rank():
    with Launch().joined() as ranks:
        assert (ranks.rank, ranks.size) == (0, 1)
        assert ranks.gather("a") == ["a"]
        assert ranks.any(True, False) == [True, False]
    assert Launch().note("name", "value") == "value"


def test_more_processes_than_devices_are_refused(monkeypatch):
    names = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="got process 3 and 2 devices"), Launch().joined():
        pass
