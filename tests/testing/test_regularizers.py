"""`check_regularizer`: wrong regularizers are caught, right ones pass."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.autograd import grad

from gankit import REGULARIZERS
from gankit.answers import Judgements
from gankit.errors import ConformanceError
from gankit.testing import RULES, check_regularizer
from tests.testing.catching import assert_caught, wrong_parts
from tests.testing.wrong_regularizers import WRONG_REGULARIZERS, GeneratorTerm, Interpolated, NormOfTheBatch, Penalty

PICTURES = [(3, 8, 8), (1, 8, 8)]
REGULARIZER_OPTIONS = {
    "balanced_consistency": {"sample_shapes": PICTURES},
    "consistency": {"sample_shapes": PICTURES},
    "dragan": {"batch_statistic": True},
    "feature_matching": {"batch_statistic": True},
    "lecam": {"batch_statistic": True},
    "mode_seeking": {"batch_statistic": True},
    "path_length": {"batch_statistic": True},
}


@wrong_parts(WRONG_REGULARIZERS)
def test_a_wrong_regularizer_is_caught_by_the_rule_it_breaks(part, rule):
    assert_caught(check_regularizer, part, rule)


def test_every_rule_for_regularizers_has_a_wrong_regularizer():
    assert {rule for _, rule in WRONG_REGULARIZERS} == RULES["regularizer"].keys()


@pytest.mark.parametrize("part", [Penalty(), Interpolated(), GeneratorTerm()])
def test_the_regularizers_without_their_mistakes_pass(part):
    check_regularizer(part)


class ConcatenatedPenalty(Interpolated):
    """WGAN-GP that evaluates D on all samples at once."""

    def gradient(self, context):
        between = torch.lerp(context.fake, context.real, self.share(context))
        everything = torch.cat([context.real, between, context.fake]).detach().requires_grad_()
        condition = None if context.condition is None else context.condition.repeat(3)
        returned = context.discriminator(*(one for one in (everything, condition) if one is not None))
        logits = Judgements(returned, everything.shape[:1]).per_sample(context.head_weights)
        return grad(logits.sum(), everything, create_graph=True)[0].chunk(3)[1]


def test_a_penalty_on_concatenated_samples_passes():
    check_regularizer(ConcatenatedPenalty())


@pytest.mark.parametrize("name", REGULARIZERS.names())
def test_gankit_regularizers_and_constraints_pass(name):
    check_regularizer(REGULARIZERS.build(name), **REGULARIZER_OPTIONS.get(name, {}))


@pytest.mark.parametrize(
    "name", [name for name in REGULARIZERS.names() if isinstance(REGULARIZERS.build(name), nn.Module)]
)
def test_a_regularizer_keeps_its_state(name):
    part = REGULARIZERS.build(name)
    before = copy.deepcopy(part.state_dict())
    check_regularizer(part, **REGULARIZER_OPTIONS.get(name, {}))
    for key, tensor in part.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_a_batch_statistic_passes_with_batch_statistic_true():
    check_regularizer(NormOfTheBatch(), batch_statistic=True)


def test_a_penalty_for_one_head_may_refuse_several_in_a_sentence_and_in_no_other_way():
    check_regularizer(Penalty())  # context.logits refuses them

    class CallsDItself(Interpolated):
        def gradient(self, context):
            real = context.real.detach().requires_grad_()
            arguments = (real,) if context.condition is None else (real, context.condition)
            return grad(context.discriminator(*arguments).float().sum(), real, create_graph=True)[0]

    with pytest.raises(ConformanceError, match="'judgements': .* with a D that judges heads, raised AttributeError"):
        check_regularizer(CallsDItself())
