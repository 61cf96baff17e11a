"""Compares `vanilla_mnist_tuned` with variants of it that are broken on purpose, which must score worse.

    OMP_NUM_THREADS=1 python -m tools.compare_broken_variants --seeds 5 --out runs/broken

One variant has a generator of half the width, and in the other one D is not updated in the second half of the steps.
Flags are those of `gankit compare`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from torch import optim
from typing_extensions import override

from gankit.cli import main
from gankit.optimizers import OPTIMIZERS
from gankit.presets import vanilla_mnist_tuned


def variants(steps: int) -> list[str]:
    """Return the variants of a training of so many steps as `gankit compare` reads them."""
    return [
        "generator=mlp:hidden_dim=64",
        f"discriminator_optimizer=stopping_adam:updates={steps // 2},lr=0.0004,betas=[0.5,0.99]",
    ]


class StoppingAdam(optim.Adam):
    """Adam that makes no more updates after the first ones.

    Args:
        params: The parameters.
        updates: The number of updates.
        lr: The learning rate.
        betas: The decay rates of the averages.
    """

    def __init__(self, params: Any, *, updates: int, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(params, lr=lr, betas=betas, fused=True)
        self.remaining = updates

    @override
    def step(self, closure: Any = None) -> Any:
        """Make an update while any remain."""
        if self.remaining > 0:
            self.remaining -= 1
            return super().step(closure)
        return None


def arguments(flags: list[str]) -> list[str]:
    """Return the arguments of `gankit` for the flags of this command."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--steps", type=int, default=vanilla_mnist_tuned.steps)
    steps = parser.parse_known_args(flags)[0].steps
    entries = ["--loss", "unchanged", *(word for variant in variants(steps) for word in ("--variant", variant))]
    return ["compare", "vanilla_mnist_tuned", *entries, *flags]


if __name__ == "__main__":
    OPTIMIZERS.register("stopping_adam", StoppingAdam)
    sys.exit(main(arguments(sys.argv[1:])))
