"""`gankit list`: every part of every kind, without torch where that is possible."""

from __future__ import annotations

import pytest

from gankit.cli import REGISTRIES, main


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
