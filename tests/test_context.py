"""What one half of a step sees: D's answers have the shape of logits, and replicas are stated, not guessed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import StepContext
from gankit.errors import BadArgumentsError, ShapeError


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
        ((4, 1), (4, 1, 2), None),
        ((4, 4), (4, 4), None),
        ((), (4, 2), None),
        ((2,), (4, 2), None),
        ((4, 1, 3, 3), (4, 1, 3, 3), None),
        ((4,), (4, 3, 2), 4),
        ((4, 3), (4, 3, 2), 3),
        ((3, 1), (3, 4, 2), 3),
        ((3, 4, 1), (3, 4, 1), 3),
    ],
)
@pytest.mark.parametrize("concatenate", [False, True])
def test_answers_that_are_no_logits_are_refused(answer, samples, replicas, concatenate):
    x = torch.zeros(samples)
    context = StepContext(discriminator=Answers(*answer), real=x, fake=x, replicas=replicas, concatenate=concatenate)
    with pytest.raises(ShapeError, match="the discriminator must return logits of shape"):
        context.logits("real")


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
