"""A training that runs on several ranks, or in one process with the batches and the noise of all of them."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from gankit.answers import Answer
from gankit.context import StepContext
from gankit.data import make_batches
from gankit.latents import Normal
from gankit.losses import LOSSES
from gankit.presets import ring
from gankit.regularizers import REGULARIZERS
from gankit.seeds import stream_seed
from gankit.spec import Spec
from gankit.training import AdversarialTrainer, Ranks
from gankit.training.feed import Feed
from tests.training.steps import step_of

STEPS = 20
SAMPLES = 8  # of each rank's batch
# losses and penalties with a statistic of the batch, which is not the mean of the ranks' statistics
STATISTICS = {
    "dragan",
    "feature_matching",
    "lecam",
    "mode_seeking",
    "path_length",
    "relativistic_average",
    "relativistic_average_hinge",
    "relativistic_average_least_squares",
    "softmax",
}
LAZY = {"r1", "r2", "path_length"}


class Shared:
    """Latents that one process draws from the generators of all ranks, one rank after the other."""

    def __init__(self, ranks: int, replicas: int | None = None) -> None:
        def generator(replica, rank):
            return torch.Generator().manual_seed(stream_seed(replica, "training noise", rank))

        self.randoms = [[generator(i, rank) for rank in range(ranks)] for i in range(replicas or 1)]
        self.shape = (4,)
        self._draws = 0

    def __call__(self, count, *, generator=None, device=None):
        randoms = self.randoms[self._draws % len(self.randoms)]
        self._draws += 1
        latent = Normal(4)
        return torch.cat([latent(count // len(randoms), generator=one, device=device) for one in randoms])


class SharedContext(StepContext):
    """A context that draws its noise from the generators of all ranks, one rank after the other."""

    randoms = ()

    def _drawn(self, x, draw):
        parts = x.chunk(len(self.randoms))
        return torch.cat(
            [
                draw(torch.empty_like(part, requires_grad=False), one)
                for part, one in zip(parts, self.randoms, strict=True)
            ]
        )

    def normal_like(self, x):
        return self._drawn(x, lambda part, one: part.normal_(generator=one))

    def uniform_like(self, x):
        return self._drawn(x, lambda part, one: part.uniform_(generator=one))

    def changed(self, x, change):
        return torch.cat(
            [change(part, generator=one) for part, one in zip(x.chunk(len(self.randoms)), self.randoms, strict=True)]
        )


# without a bias before BatchNorm, which cancels it: its gradient would be rounding errors, which Adam enlarges
def generator_network(norm: bool) -> nn.Module:
    layers = [
        nn.Linear(4, 8, bias=not norm),
        *([nn.BatchNorm1d(8)] if norm else []),
        nn.LeakyReLU(0.2),
        nn.Linear(8, 3),
    ]
    return nn.Sequential(*layers)


class Critic(nn.Module):
    """A small discriminator with features, which returns one logit, a map of them, or two heads."""

    def __init__(self, norm: bool, condition: bool = False, judged: str = "samples") -> None:
        super().__init__()
        layers = [
            nn.Linear(3, 8, bias=not norm),
            *([nn.BatchNorm1d(8)] if norm else []),
            nn.Softplus(),
            nn.Linear(8, 8),
        ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(8, 1 if judged == "samples" else 6)
        self.judged = judged

    def features(self, x, condition=None):
        return self.body(x)

    def forward(self, x):
        logits = self.head(torch.nn.functional.softplus(self.body(x)))
        if self.judged == "heads":
            return Answer((logits[:, :2], logits[:, 2:].unflatten(1, (2, 2))))
        return logits.squeeze(-1) if self.judged == "samples" else logits.unflatten(1, (1, 2, 3))


def blurred(x, *, generator):
    """An augmentation of points."""
    return x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def built(name):
    """Return a regularizer. Those with an augmentation get one for points."""
    if name.name in ("balanced_consistency", "consistency"):
        return REGULARIZERS.get(name.name)(augment=blurred)
    return REGULARIZERS.build(name)


def trained(
    *,
    ranks: int,
    loss: str | Spec = "non_saturating",
    regularizers: tuple[str | Spec, ...] = (),
    norms: tuple[bool, bool] = (False, False),
    judged: str = "samples",
    steps: int = STEPS,
    count: int = SAMPLES,
    **options,
):
    """Train with all present ranks, and return weights, buffers and metrics in float64."""
    torch.manual_seed(3)  # the ranks' own weights are rank 0's
    G, D = generator_network(norms[0]).double(), Critic(norms[1], judged=judged).double()
    present = Ranks.present()
    alone = present.size < ranks
    latent = Shared(ranks) if alone else Normal(4)
    trainer = AdversarialTrainer(
        G,
        D,
        LOSSES.build(loss),
        latent=latent,
        generator_optimizer=torch.optim.Adam(G.parameters(), 2e-3),
        discriminator_optimizer=torch.optim.Adam(D.parameters(), 2e-3),
        regularizers={Spec.of(one).name: built(one) for one in regularizers},
        log_every_steps=7,
        **options,
    )
    data = torch.randn(100, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batches = make_batches(
        data,
        batch_size=count * ranks if alone else count,
        sample_range=None,
        shard=(present.rank, present.size),
    )
    if alone:
        fit_with(type("Context", (SharedContext,), {"randoms": latent.randoms[0]}), trainer, batches, steps)
    else:
        trainer.fit(batches, steps=steps)
    found = {f"G.{n}": t for n, t in trainer.generator.state_dict().items()}
    found |= {f"D.{n}": t for n, t in trainer.discriminator.state_dict().items()}
    if trainer.averaged_generator is not None:
        found |= {f"average.{n}": t for n, t in trainer.averaged_generator.state_dict().items()}
    found |= {f"metrics.{n}": t for n, t in trainer.metrics.items()}
    for name, part in trainer.regularizers.items():
        if isinstance(part, nn.Module):
            found |= {f"{name}.{n}": t for n, t in part.named_buffers()}
    return {name: tensor.detach().numpy().copy() for name, tensor in found.items()}


def fit_with(make_context, trainer, batches, steps):
    """Make the steps of `fit` with contexts from `make_context`."""
    step, feed = step_of(trainer), Feed(batches, trainer.device)
    differentiate = partial(step.differentiate_eagerly, make_context=make_context)
    for _ in range(steps):
        trainer._decay_learning_rates()
        taken = [trainer._checked(next(feed)) for _ in range(trainer.discriminator_steps)]
        updates_generator = step.updates_generator
        trainer.state.finish_step(step(taken, differentiate), has_updated_generator=updates_generator)


def largest_difference(first, second) -> float:
    assert first.keys() == second.keys()
    return max(float(abs(first[name] - second[name]).max()) for name in first)


def of_regularizer(name: str) -> tuple[Spec]:
    return (Spec(name, every=3) if name in LAZY else Spec(name),)


CASES = {
    **{name: {"loss": name} for name in LOSSES.names()},
    **{name: {"regularizers": of_regularizer(name)} for name in REGULARIZERS.names()},
    "two updates of D": {"discriminator_steps": 2, "loss": "wasserstein"},
    "clipping and averaging": {"max_gradient_norm": 0.1, "averaging_decay": 0.9},
    "warm-up": {"discriminator_warmup_steps": 5},
    "one pass of G": {"share_generator_forward": True},
    "one pass of D": {"concatenate_discriminator_passes": True},
    "a map": {"judged": "positions", "regularizers": (Spec("r1_r2", every=2), Spec("wasserstein_gradient_penalty"))},
    "two heads": {"judged": "heads", "regularizers": (Spec("r1", every=2), Spec("logit_drift"))},
    "two heads in one pass": {"judged": "heads", "loss": "relativistic", "concatenate_discriminator_passes": True},
}
SYNCHRONIZED = {
    "BatchNorm in G": {"norms": (True, False), "averaging_decay": 0.9},
    "BatchNorm in both": {"norms": (True, True)},
    "BatchNorm in both, one pass of G": {"norms": (True, True), "share_generator_forward": True},
    "BatchNorm in D, differentiated twice": {"norms": (False, True), "regularizers": (Spec("r1_r2"),)},
    "BatchNorm in both, with a penalty between them": {
        "norms": (True, True),
        "loss": "wasserstein",
        "regularizers": (Spec("wasserstein_gradient_penalty"),),
        "discriminator_steps": 2,
    },
}
# ranks that are only compared with each other need one reading of the metrics
CASES |= {name: CASES[name] | {"steps": 7} for name in STATISTICS}
EQUAL = {name: case for name, case in CASES.items() if name not in STATISTICS} | {
    name: case | {"synchronize_batch_norm": True} for name, case in SYNCHRONIZED.items()
}


def all_trained(cases, ranks):
    return {name: trained(ranks=ranks, **case) for name, case in cases.items()}


POINTS = ring.replace(
    generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8]), batch_size=16, learning_rate_decay=False
)
