"""Networks whose parameters themselves are in half precision or in float64 train in that type."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import REGULARIZERS, Spec
from gankit.errors import BadArgumentsError
from tests.training.steps import CLASSES, make, make_batches, small_networks, stacked

LOSSES = {"discriminator_loss", "generator_loss"}


def trained(dtype, steps=2, data=None, **options):
    data = make_batches(options.get("classes")) if data is None else data
    return make(dtype=dtype, **options).fit(data, steps=steps)


OPTIONS = {
    "plain": {},
    "average": {"averaging_decay": 0.9},
    "clipped": {"max_gradient_norm": 0.5},
    "shared fakes": {"share_generator_forward": True},
    "concatenated": {"concatenate_discriminator_passes": True},
    "skip": {"on_non_finite": "skip"},
    "compiled": {"execution": "compile"},
    "conditional": {"classes": CLASSES},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bfloat16_networks_train_in_bfloat16(name, traced_only):
    trainer = trained(torch.bfloat16, 4, **OPTIONS[name])
    assert trainer.explain().mode == OPTIONS[name].get("execution", "eager")
    wide = trained(torch.float32, 4, **OPTIONS[name])
    for network in (trainer.generator, trainer.discriminator):
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    classes = None if name != "conditional" else torch.zeros(3, dtype=torch.long)
    assert trainer.sample(3, classes).dtype == torch.bfloat16
    for loss in LOSSES:
        assert trainer.metrics[loss].dtype == torch.float32
        torch.testing.assert_close(trainer.metrics[loss], wide.metrics[loss], rtol=0.05, atol=0.05)


def test_bfloat16_replicas_train():
    trainer = trained(
        torch.bfloat16, 3, networks=stacked(small_networks, 2), data=make_batches(replicas=(2,)), max_gradient_norm=0.1
    )
    assert trainer.metrics["generator_loss"].shape == (2,)


PENALTIES = [name for name in REGULARIZERS if name != "weight_clipping"]


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_of_bfloat16_networks_are_nearly_those_of_float32(name):
    spec = Spec(name, augment="translation") if "consistency" in name else name
    narrow, wide = (
        trained(dtype, 1, regularizers={"it": REGULARIZERS.build(spec)}) for dtype in (torch.bfloat16, torch.float32)
    )
    found, wanted = (trainer.metrics["penalty/it"] for trainer in (narrow, wide))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.bfloat16), (torch.float64, torch.float32)])
def test_networks_of_two_types_are_refused_at_construction(dtypes, make_trainer):
    trainer = make_trainer()
    with pytest.raises(BadArgumentsError, match="must have parameters of one type, got float"):
        make_trainer(trainer.generator.to(dtypes[0]), trainer.discriminator.to(dtypes[1]))


def test_networks_of_mixed_types_that_have_one_in_common_are_not_refused(make_trainer):
    D = nn.Sequential(nn.Flatten(), nn.Linear(16, 1, dtype=torch.float64), nn.LayerNorm(1), nn.Flatten(0))
    assert make_trainer(discriminator=D).steps_done == 0
