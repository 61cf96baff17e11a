"""Command lines at random are obeyed, or refused in one sentence, and nothing else happens."""

from __future__ import annotations

from hypothesis import given

from tests.random_command_lines import command_lines, try_command
from tests.random_recipes import random


@random(max_examples=15)
@given(command_lines())
def test_a_command_line_is_obeyed_or_refused_in_one_sentence(line):
    try_command(line)
