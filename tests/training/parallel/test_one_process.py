"""Several processes that train one model compute what one process with all their samples computes."""

from __future__ import annotations

from functools import partial

import pytest

from gankit.spec import Spec
from tests.ranks import on_ranks
from tests.training.parallel.rank_training import (
    CASES,
    EQUAL,
    all_trained,
    largest_difference,
    trained,
)

UNSYNCHRONIZED = {"BatchNorm of each rank": {"norms": (True, False)}}
FOUR = {name: EQUAL[name] | {"count": 4} for name in ("r1", "BatchNorm in D, differentiated twice")}


@pytest.fixture(scope="module")
def results_of_two_ranks():
    """What every case gives on each of two ranks."""
    return on_ranks(2, all_trained, CASES | EQUAL | UNSYNCHRONIZED, 2)


@pytest.fixture(scope="module")
def results_of_four_ranks():
    """What some cases give on each of four ranks."""
    return on_ranks(4, all_trained, FOUR, 4)


@pytest.mark.parametrize("case", EQUAL)
def test_two_ranks_equal_one_process_with_batches_twice_as_large(case, results_of_two_ranks):
    alone = trained(ranks=2, **EQUAL[case])
    for one in results_of_two_ranks:
        assert largest_difference(one[case], alone) < 1e-9


@pytest.mark.parametrize("case", FOUR)
def test_four_ranks_equal_one_process_with_batches_four_times_as_large(case, results_of_four_ranks):
    alone = trained(ranks=4, **FOUR[case])
    for one in results_of_four_ranks:
        assert largest_difference(one[case], alone) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_all_ranks_hold_the_same_bits(case, results_of_two_ranks):
    first, second = results_of_two_ranks
    assert largest_difference(first[case], second[case]) == 0


@pytest.mark.slow
def test_compiled_ranks_equal_one_eager_process():
    case = {"regularizers": (Spec("r1"),)}
    alone = trained(ranks=2, **case)
    for one in on_ranks(2, partial(trained, ranks=2, execution="compile", **case)):
        assert largest_difference(one, alone) < 1e-9


@pytest.mark.parametrize("case", UNSYNCHRONIZED)
def test_without_synchronising_each_rank_normalises_its_own_batch(case, results_of_two_ranks):
    first, second = (one[case] for one in results_of_two_ranks)
    assert largest_difference(first, second) == 0  # the statistics are averaged
    assert largest_difference(first, trained(ranks=2, **UNSYNCHRONIZED[case])) > 1e-3
