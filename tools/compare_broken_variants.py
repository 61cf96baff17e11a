"""Compares the vanilla GAN on digits with variants of it that are broken on purpose, which must score worse.

    python -m tools.compare_broken_variants --seeds 5 --steps 1000 --out runs/broken

One variant has a generator of half the width. In another one, D is updated in every second step only, and in the last
one, D is not updated in the second half of the steps. Further flags are those of `gankit compare`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from torch import optim
from typing_extensions import override

from gankit.cli import main
from gankit.optimizers import OPTIMIZERS


class PausingAdam(optim.Adam):
    """Adam with the numbers of `vanilla_mnist` that leaves out some of its updates.

    Args:
        params: The parameters.
        every: Make only every `every`-th update.
        until: The number of updates after which no more are made. None makes all.
    """

    def __init__(self, params: Any, *, every: int = 1, until: int | None = None) -> None:
        super().__init__(params, lr=2e-4, betas=(0.5, 0.999), fused=True)
        self.every, self.until, self.asked = every, until, 0

    @override
    def step(self, closure: Any = None) -> Any:
        """Make an update, or leave it out."""
        self.asked += 1
        if self.asked % self.every == 0 and (self.until is None or self.asked <= self.until):
            return super().step(closure)
        return None


def variants(steps: int) -> list[str]:
    """Return the variants as `gankit compare` reads them."""
    return [
        "generator=mlp:hidden_dim=64",
        "discriminator_optimizer=pausing_adam:every=2",
        f"discriminator_optimizer=pausing_adam:until={steps // 2}",
    ]


if __name__ == "__main__":
    OPTIMIZERS.register("pausing_adam", PausingAdam)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--steps", type=int, default=1000)
    options, others = parser.parse_known_args()
    each = [word for variant in variants(options.steps) for word in ("--variant", variant)]
    sys.exit(main(["compare", "vanilla_mnist", *each, "--steps", str(options.steps), *others]))
