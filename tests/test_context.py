"""What one half of a step sees: D's answers have the shape of logits, and replicas are stated, not guessed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from gankit import StepContext
from gankit.answers import Answer
from gankit.errors import BadArgumentsError, BadValueError, ShapeError


class Answers(nn.Module):
    """A discriminator that returns zeros of a shape."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return torch.zeros(self.shape)


@pytest.mark.parametrize(
    ("answer", "samples", "replicas"),
    [
        ((4, 3), (4, 3), None),  # three numbers per sample, which might pass for replicas
        ((4, 3), (4, 3, 2), None),
        ((4, 4), (4, 4), None),
        ((), (4, 2), None),
        ((2,), (4, 2), None),
        ((4, 2, 3, 3), (4, 1, 3, 3), None),
        ((4, 1, 0), (4, 2), None),
        ((4,), (4, 3, 2), 4),
        ((3, 1), (3, 4, 2), 3),
        ((3, 4, 2), (3, 4, 1), 3),
    ],
)
@pytest.mark.parametrize("concatenate", [False, True])
def test_answers_that_are_no_logits_are_refused(answer, samples, replicas, concatenate):
    x = torch.zeros(samples)
    context = StepContext(discriminator=Answers(*answer), real=x, fake=x, replicas=replicas, concatenate=concatenate)
    with pytest.raises(ShapeError, match="the discriminator must return logits of shape"):
        context.logits("real")


@pytest.mark.parametrize(
    ("answer", "folded"),
    [((4,), 4), ((4, 1), 4), ((4, 1, 3, 5), 60), ((4, 1, 7), 28), ((3, 4), 4), ((3, 4, 1), 4), ((3, 4, 1, 2, 5), 40)],
)
@pytest.mark.parametrize("concatenate", [False, True])
def test_positions_are_folded_into_the_last_dimension_sample_by_sample(answer, folded, concatenate):
    replicas = 3 if answer[0] == 3 else None
    batch = 1 if replicas is None else 2

    class Numbered(nn.Module):
        """Judges each position by the value of its sample plus the number of the position."""

        def forward(self, x):
            positions = torch.arange(math.prod(answer[batch:]), dtype=x.dtype) / 100
            return (x[..., :1] + positions).view(*x.shape[:batch], *answer[batch:])

    real, fake = torch.rand(*answer[:batch], 2), torch.rand(*answer[:batch], 2)
    context = StepContext(discriminator=Numbered(), real=real, fake=fake, replicas=replicas, concatenate=concatenate)
    for which, x in (("real", real), ("fake", fake)):
        logits = context.logits(which)
        assert logits.shape == (*answer[: batch - 1], folded)
        expected = Numbered()(x)
        by_sample = expected.reshape(*answer[:batch], -1)
        assert torch.equal(logits, expected.flatten(batch - 1))
        assert torch.equal(context.answer(which).heads[0], expected)
        torch.testing.assert_close(
            context.sample_logits(which), expected.flatten(batch - 1).view(*x.shape[:-1], -1).mean(-1)
        )
        torch.testing.assert_close(context.sample_logits(which, "sum"), by_sample.sum(-1))
    assert context.batch_size == 4
    assert context.batch_shape == answer[:batch]


class TwoHeads(nn.Module):
    """Judges frames and a map, and returns features of two layers from the same pass."""

    calls = 0

    def forward(self, x, condition=None):
        self.calls += 1
        shift = 0 if condition is None else condition["shift"]
        frames = x[:, 0] + shift
        return Answer(heads=(frames, x * 2), features=[x.flatten(1), [x.flatten(1) + 1]])


@pytest.mark.parametrize("concatenate", [False, True])
def test_heads_of_different_positions_are_folded_one_by_one(concatenate):
    real, fake = torch.rand(4, 3, 5), torch.rand(4, 3, 5)
    D, conditions = TwoHeads(), ({"shift": torch.ones(4, 1)}, {"shift": torch.zeros(4, 1)})
    context = StepContext(
        discriminator=D,
        real=real,
        fake=fake,
        condition=conditions[0],
        fake_condition=conditions[1],
        concatenate=concatenate,
        head_weights=[1.0, 0.5],
    )
    for which, x, shift in (("real", real, 1), ("fake", fake, 0)):
        frames, both = context.heads(which)
        assert torch.equal(frames, (x[:, 0] + shift).flatten())
        assert torch.equal(both, 2 * x.flatten())
        assert torch.equal(context.answer(which).heads[1], 2 * x)
        layer, (other,) = context.features(which)
        assert torch.equal(layer, x.flatten(1))
        assert torch.equal(other, x.flatten(1) + 1)
        expected = (x[:, 0] + shift).mean(-1) + 0.5 * (2 * x).mean((1, 2))
        torch.testing.assert_close(context.sample_logits(which), expected)
        with pytest.raises(BadArgumentsError, match="logits are those of a discriminator's only head, got 2 heads"):
            context.logits(which)
    assert D.calls == (1 if concatenate else 2)  # features come from the pass of the logits


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ((torch.zeros(2), torch.zeros(2)), BadArgumentsError, "or an Answer.heads=.tensor, ....* got tuple"),
        ({"logits": torch.zeros(2)}, BadArgumentsError, "got dict"),
        (torch.zeros(2, dtype=torch.long), BadArgumentsError, "got torch.int64"),
        (torch.zeros(2, 10), ShapeError, r"got \(2, 10\); return Answer\(heads=\(logits,\)\)"),
        (Answer(heads=()), BadArgumentsError, "heads must be one or more tensors in a tuple, got tuple without any"),
        (Answer(heads=torch.zeros(2)), BadArgumentsError, "heads must be one or more tensors in a tuple, got"),
        (Answer(heads=(torch.zeros(2), None)), BadArgumentsError, "got NoneType as head 1"),
        (Answer(heads=(torch.zeros(2), torch.zeros(3))), ShapeError, r"head 1 .* shape \(2, \*positions\), got \(3,\)"),
        (Answer(heads=(torch.zeros(2, 0),)), ShapeError, "head 0"),
    ],
)
def test_what_is_no_answer_is_refused_with_what_it_should_be(returned, error, message):
    class Wrong(nn.Module):
        def forward(self, x):
            return returned

    with pytest.raises(error, match=message):
        StepContext(discriminator=Wrong(), real=torch.zeros(2, 3)).heads("real")


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0, 3.0]])
def test_there_is_one_weight_for_each_head(weights):
    context = StepContext(discriminator=TwoHeads(), real=torch.zeros(4, 3, 5), head_weights=weights)
    with pytest.raises(BadValueError, match="head_weights must be one for each of the discriminator's 2 heads"):
        context.sample_logits("real")


def test_an_answer_is_a_pytree():
    answer = Answer(heads=(torch.zeros(2), torch.ones(2)), features=[torch.zeros(2, 3)])
    doubled = tree_map(lambda one: one + 1, answer)
    assert isinstance(doubled, Answer)
    assert doubled.heads[1].tolist() == [2.0, 2.0]
    assert len(tree_leaves(answer)) == 3
    mapped = torch.func.vmap(lambda x: Answer(heads=(x, x * 2)))(torch.rand(3, 2))
    assert [head.shape for head in mapped.heads] == [(3, 2), (3, 2)]


def test_logits_of_replicas_have_the_stated_number_of_rows():
    context = StepContext(discriminator=nn.Flatten(1), real=torch.zeros(3, 4, 1), replicas=3)
    assert context.logits("real").shape == (3, 4)
    assert context.discriminate(torch.zeros(3, 1, 1)).shape == (3, 1)  # one sample for each replica


@pytest.mark.parametrize(("count", "replicas"), [(1, None), (2, None), (None, 2), (2, 3)])
def test_there_is_one_random_generator_for_each_replica(count, replicas):
    random = torch.Generator() if count is None else [torch.Generator() for _ in range(count)]
    with pytest.raises(BadArgumentsError, match="random must be one generator for each replica"):
        StepContext(discriminator=nn.Flatten(0), random=random, replicas=replicas)
    StepContext(discriminator=nn.Flatten(0), replicas=replicas)
