"""`gankit list`: every part of every kind, without torch where that is possible."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from gankit.cli import REGISTRIES, main
from gankit.cli.names import NAMES
from gankit.cli.registries import part_names
from gankit.losses import LOSSES
from gankit.registry import Registry


def test_list_names_every_registry_and_every_part(capsys):
    assert main(["list"]) == 0
    everything = capsys.readouterr().out
    for kind, registry in REGISTRIES.items():
        assert kind in everything
        assert all(name in everything for name in registry.names())


@pytest.mark.parametrize("kind", REGISTRIES)
def test_list_gives_each_part_a_line(kind, capsys):
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == REGISTRIES[kind].names()
    assert all(len(line.split()) > 1 for line in lines)


def test_list_takes_a_pattern(capsys):
    main(["list", "losses", "non*"])
    assert capsys.readouterr().out.splitlines()[0].startswith("non_saturating ")


@pytest.mark.parametrize("kind", REGISTRIES)
def test_the_names_that_need_no_torch_are_those_of_the_registry(kind):
    assert list(NAMES[kind]) == REGISTRIES[kind].names()
    assert NAMES.keys() == REGISTRIES.keys()


def test_parts_that_were_registered_since_are_listed(monkeypatch, capsys):
    monkeypatch.setattr(LOSSES, "_factories", {**LOSSES._factories, "another": object})
    assert main(["list"]) == 0
    assert " another, " in capsys.readouterr().out


def test_parts_of_other_packages_are_listed(monkeypatch):
    monkeypatch.delitem(sys.modules, "gankit.losses")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ["one"] if group == "gankit.losses" else [])
    monkeypatch.setattr("importlib.import_module", lambda name: SimpleNamespace(LOSSES=Registry("loss")))
    assert part_names("losses") == []
