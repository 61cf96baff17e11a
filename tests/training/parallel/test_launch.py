"""What `Launch` reads from torchrun's environment."""

from __future__ import annotations

import pytest
import torch

from gankit.errors import (
    BadValueError,
    DeviceError,
    GankitWarning,
)
from gankit.training import Launch

WHOLE = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "0", "MASTER_ADDR": "localhost"}, "WORLD_SIZE, LOCAL_RANK, MASTER_PORT"),
        (WHOLE | {"WORLD_SIZE": ""}, "WORLD_SIZE"),
        (WHOLE | {"MASTER_ADDR": ""}, "MASTER_ADDR"),
    ],
)
def test_an_environment_that_is_not_whole_is_refused(given, missing, monkeypatch):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadValueError, match=f"got an environment without {missing}$"):
        Launch()


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_one_variable_alone_is_no_launcher(name, monkeypatch):
    monkeypatch.setenv(name, "of another program")
    assert not Launch().is_there


@pytest.mark.parametrize(
    ("name", "value", "values"),
    [
        ("RANK", "first", "0 to 1"),
        ("RANK", "2", "0 to 1"),
        ("WORLD_SIZE", "two", "1 to 2147483647"),
        ("WORLD_SIZE", "0", "1 to 2147483647"),
        ("LOCAL_RANK", "-1", "0 to 1"),
        ("LOCAL_WORLD_SIZE", "0", "1 to 2"),
        ("MASTER_PORT", "http", "0 to 65535"),
        ("TORCHELASTIC_RESTART_COUNT", "", "0 to 2147483647"),
    ],
)
def test_a_variable_that_is_no_number_of_its_range_is_refused(name, value, values, monkeypatch):
    for one, given in (WHOLE | {name: value}).items():
        monkeypatch.setenv(one, given)
    with pytest.raises(BadValueError, match=f"variable {name} must be a number from {values}, got '{value}'$"):
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
    for name, value in (WHOLE | {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": local}).items():
        monkeypatch.setenv(name, str(value))
    assert " ".join(Launch().command) == words


def test_without_a_launcher_there_is_one_rank():
    with Launch().joined() as ranks:
        assert (ranks.rank, ranks.size) == (0, 1)
        assert ranks.gather("a") == ["a"]
        assert ranks.any(True, False) == [True, False]
    assert Launch().note("name", "value") == "value"


def test_more_processes_than_devices_are_refused(monkeypatch):
    for name, value in (WHOLE | {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="got process 3 and 2 devices"), Launch().joined():
        pass


def join_and_fail(monkeypatch, destroy):
    for name, value in (WHOLE | {"WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    store = torch.distributed.HashStore()
    monkeypatch.setattr("gankit.training.parallel.launch.rendezvous", lambda *_, **__: iter([(store, 0, 1)]))
    with Launch().joined("cpu"):
        destroy()
        raise KeyError("first")


def test_the_error_of_a_training_is_not_replaced_by_that_of_leaving_the_group(monkeypatch):
    def lost():
        torch.distributed.destroy_process_group()
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)

    with pytest.raises(KeyError, match="first"):
        join_and_fail(monkeypatch, torch.distributed.destroy_process_group)
    with pytest.warns(GankitWarning, match="after an error, this failed as well"), pytest.raises(KeyError, match="fir"):
        join_and_fail(monkeypatch, lost)
