"""Small trainings, and the comparison of their states, for tests of resuming."""

from __future__ import annotations

import torch

from gankit.presets import ring, vanilla_mnist
from gankit.spec import Spec

SMALL = {"generator": Spec("mlp", widths=[8]), "discriminator": Spec("mlp", widths=[8]), "batch_size": 16}
POINTS = ring.replace(
    **SMALL | {"generator": Spec("mlp", widths=[8], block="linear_relu")},
    learning_rate_decay=False,
    averaging_decay=None,
)
DIGITS = vanilla_mnist.replace(**SMALL)


def assert_equal(first, second, where="state"):
    """Two states agree in structure, in types, and in every bit."""
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        first, second = first.detach(), second.detach()
        assert first.dtype == second.dtype, where
        assert first.shape == second.shape, where
        assert first.numpy().tobytes() == second.numpy().tobytes(), where
    elif isinstance(first, dict):
        assert list(first) == list(second), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for i, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f"{where}[{i}]")
    else:
        assert first == second, where


def everything(trainer) -> dict:
    return {"trainer": trainer.state_dict(), "data": trainer.data_state()}


def lambda_at(step, checkpointer):
    """The checkpointer, called at one step alone."""

    class Once:
        every = step

        def __call__(self, trainer):
            if trainer.steps_done == step:
                checkpointer(trainer)

    return Once()
