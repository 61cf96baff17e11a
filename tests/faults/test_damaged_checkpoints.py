"""Checkpoints whose files are damaged or missing: the loader skips them with a warning."""

from __future__ import annotations

import random
import warnings

import pytest

from gankit.errors import CheckpointNotFoundError, CheckpointWarning
from gankit.training import load_newest
from tests.faults.checkpoints import two_checkpoints


def truncated(content: bytearray, chance: random.Random) -> bytes:
    return bytes(content[: chance.randrange(len(content))])


def with_a_zeroed_page(content: bytearray, chance: random.Random) -> bytes:
    page = chance.randrange(-(-len(content) // 4096)) * 4096
    content[page : page + 4096] = bytes(len(content[page : page + 4096]))
    return bytes(content)


def with_a_flipped_bit(content: bytearray, chance: random.Random) -> bytes:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


DAMAGES = [truncated, with_a_zeroed_page, with_a_flipped_bit]


def count_silent_loads(damage, trials: int) -> int:
    """Damage a file of the newest checkpoint many times; count the loads that did not fall back with one warning."""
    _, newest = two_checkpoints()
    chance, silent = random.Random(0), 0
    files = sorted(newest.iterdir())
    for _ in range(trials):
        path = chance.choice(files)
        whole = path.read_bytes()
        broken = damage(bytearray(whole), chance)
        if broken == whole:  # the page was zero already
            continue
        path.write_bytes(broken)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = load_newest("checkpoints")
        fitting = [w for w in caught if w.category is CheckpointWarning and newest.name in str(w.message)]
        silent += found.step != 2 or len(fitting) != 1
        path.write_bytes(whole)
    assert load_newest("checkpoints").step == 4
    return silent


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damaged_file_is_loaded_silently(damage):
    assert count_silent_loads(damage, 60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_none_of_a_thousand_damaged_files_is_loaded_silently(damage):
    assert count_silent_loads(damage, 1000) == 0


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "manifest.json"])
def test_a_checkpoint_with_a_missing_file_is_skipped_with_a_warning(name):
    _, newest = two_checkpoints()
    (newest / name).unlink()
    with pytest.warns(CheckpointWarning, match=f"step_0000004 is not a whole checkpoint: it has no {name}"):
        assert load_newest("checkpoints").step == 2


def test_having_only_damaged_checkpoints_is_an_error():
    older, newest = two_checkpoints()
    for folder in (older, newest):
        (folder / "state.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointNotFoundError, match="must hold a whole one, got 'checkpoints' with none"):
        load_newest("checkpoints")
