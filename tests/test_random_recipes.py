"""Recipes at random train, or raise an error of gankit's own that says why not, and nothing else happens."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.random_command_lines import command_lines, try_command
from tests.random_recipes import damaged_forms, drafts, random, sound_drafts, try_form, try_recipe


@random(max_examples=25)
@given(sound_drafts())
def test_a_sound_recipe_trains_two_steps(draft):
    assert try_recipe(draft)


@random(max_examples=40)
@given(drafts())
def test_a_recipe_trains_two_steps_or_says_in_one_sentence_why_not(draft):
    try_recipe(draft)


@random(max_examples=60)
@given(damaged_forms())
def test_a_damaged_form_of_a_recipe_is_read_or_refused_in_one_sentence(form):
    try_form(form)


@pytest.mark.slow
def test_two_thousand_recipes_and_command_lines(capsys):
    counts: Counter[str] = Counter()
    started = time.perf_counter()

    def count(kind: str, strategy: st.SearchStrategy[Any], number: int, attempt: Callable[[Any], bool]) -> None:
        @random(max_examples=number)
        @given(strategy)
        def each(example):
            counts[f"{kind} {'valid' if attempt(example) else 'refused'}"] += 1

        each()

    count("recipes", drafts(), 1_300, try_recipe)
    count("command lines", command_lines(), 650, try_command)
    count("command lines with pictures", command_lines(), 50, functools.partial(try_command, pictures=True))
    count("forms", damaged_forms(), 500, try_form)
    with capsys.disabled():
        print(f"\n{time.perf_counter() - started:.0f} s: {dict(sorted(counts.items()))}")
    assert sum(number for kind, number in counts.items() if "forms" not in kind) >= 2_000
    # about half of them are to be right
    assert 0.35 < counts["recipes valid"] / 1_300 < 0.65
    assert counts["command lines valid"] > 150
