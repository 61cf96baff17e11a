"""Compiled halves compute what eager halves compute."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch._inductor import config as inductor

from gankit import LossSchedule
from gankit.architectures import DCGANDiscriminator
from gankit.losses import NonSaturating, Wasserstein
from gankit.regularizers import (
    DRAGAN,
    R1,
    R1R2,
    Lecam,
    PathLength,
    WassersteinGradientPenalty,
    WeightClipping,
)
from gankit.training.execution.tracing import TracedHalves
from tests.training import steps
from tests.training.steps import (
    CLASSES,
    SHAPE,
    CountingLoss,
    assert_the_same_run,
    everything,
    small_networks,
    stacked,
    step_of,
)

make = partial(steps.make, dtype=torch.float64)
make_batches = partial(steps.make_batches, dtype=torch.float64)
two_replicas = stacked(small_networks, 2)


def with_spectral_norm(classes, dtype):
    """A discriminator that changes buffers in each forward pass."""
    G, _ = small_networks(classes, dtype)
    layers = [nn.Conv2d(1, 4, 3, dtype=dtype), nn.Tanh(), nn.Flatten(), nn.Linear(16, 1, dtype=dtype)]
    for place in (0, 3):
        nn.utils.parametrizations.spectral_norm(layers[place])
    return G, nn.Sequential(*layers, nn.Flatten(0))


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=1e-2, momentum=0.9)


# functions, because parts with averages are for one trainer each
CASES = {
    "plain": dict,
    "r1": lambda: {"regularizers": [R1()]},
    "lazy r1_r2": lambda: {"regularizers": [R1R2(every=2)]},
    "wasserstein_gradient_penalty": lambda: {
        "loss": Wasserstein(),
        "regularizers": [WassersteinGradientPenalty()],
        "optimizer": momentum,
    },
    "noise and averages": lambda: {"regularizers": [DRAGAN(), Lecam(), PathLength()]},
    "two discriminator steps": lambda: {"discriminator_steps": 2},
    "warm-up": lambda: {"discriminator_warmup_steps": 2, "averaging_decay": 0.9},
    "an average that begins late": lambda: {
        "discriminator_warmup_steps": 1,
        "regularizers": [PathLength(every=2)],
    },
    "schedule": lambda: {"loss": LossSchedule({0: "non_saturating", 3: "minimax"})},
    "conditional": lambda: {"classes": CLASSES},
    "what follows a half": lambda: {
        "averaging_decay": 0.9,
        "max_gradient_norm": 0.1,
        "learning_rate_decay_steps": 10,
        "regularizers": [WeightClipping(bound=0.1)],
    },
    "concatenated passes": lambda: {"concatenate_discriminator_passes": True, "regularizers": [R1R2()]},
    "spectral norm": lambda: {"networks": with_spectral_norm, "regularizers": [R1()]},
    "replicas": lambda: {"networks": two_replicas, "regularizers": [R1(), Lecam(), PathLength()]},
}


@pytest.mark.parametrize("case", CASES)
def test_compiled_halves_give_the_trajectory_of_eager_ones(compiler, case):
    options = CASES[case]
    classes = options().get("classes")
    data = make_batches(classes, replicas=(2,) if case == "replicas" else ())
    eager, compiled = make("eager", **options()).fit(data, steps=6), make("compile", **options()).fit(data, steps=6)
    assert compiled.explain().mode == "compile"
    assert compiled.explain().programs >= 2
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


@inductor.patch(compile_threads=1)  # workers cost more than they save here
def test_inductor_gives_the_gradients_and_buffers_of_an_eager_half():
    (real, *_), latent = make_batches(), torch.randn(6, 3, dtype=torch.float64)
    trainers = [make(regularizers=[R1()]) for _ in range(2)]
    ways = [step_of(trainers[0]).differentiate_eagerly, TracedHalves(step_of(trainers[1]))]
    eager, compiled = (differentiate("discriminator", real, None, latent) for differentiate in ways)
    torch.testing.assert_close(compiled, eager, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(
        trainers[1].discriminator.parameters(), trainers[0].discriminator.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(trainers[1].generator.buffers(), trainers[0].generator.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert trainers[1].generator.network[0][1].num_batches_tracked == 1


@pytest.mark.slow
def test_inductor_gives_the_trajectory_of_eager_steps():
    def options():
        parts = [R1(), WassersteinGradientPenalty(), Lecam(), PathLength()]
        return {"classes": CLASSES, "regularizers": parts, "averaging_decay": 0.9}

    data = make_batches(CLASSES)
    eager, compiled = make("eager", **options()).fit(data, steps=6), make("compile", **options()).fit(data, steps=6)
    assert (compiled.explain().mode, compiled.explain().programs) == ("compile", 2)
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)
    assert compiled.generator.network[0][1].num_batches_tracked == 12  # of two passes a step


@pytest.mark.parametrize("half", ["discriminator", "generator"])
def test_the_penalised_gradients_of_a_compiled_half_equal_those_of_an_eager_one(compiler, half):
    parts = [R1R2(), WassersteinGradientPenalty(), DRAGAN(), PathLength()]
    trainer = make(dtype=torch.float32, regularizers=parts)
    network = getattr(trainer, half)
    real, latent = make_batches(dtype=torch.float32)[0], torch.randn(6, 3)
    before = trainer.noise.get_state()

    def gradients(differentiate):
        trainer.noise.set_state(before)
        for part in parts:
            if isinstance(part, PathLength):
                part.average.zero_()
        results = differentiate(half, real, None, latent.clone())
        return results, [parameter.grad.clone() for parameter in network.parameters()]

    results, eager = gradients(step_of(trainer).differentiate_eagerly)
    compiled_results, compiled = gradients(TracedHalves(step_of(trainer)))
    assert any(name.startswith("penalty/") for name in results)
    torch.testing.assert_close(compiled_results, results, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)


def test_bfloat16_keeps_its_casts_in_a_compiled_half(traced_only):
    options = {"precision": "bfloat16", "dtype": torch.float32, "regularizers": [R1()]}
    data = make_batches(dtype=torch.float32)
    eager, compiled = make("eager", **options).fit(data, steps=3), make("compile", **options).fit(data, steps=3)
    plain = make("eager", **options | {"precision": "float32"}).fit(data, steps=3)
    assert compiled.explain().mode == "compile"
    name = "D.network.0.0.weight"
    ours, theirs, wide = (everything(one)[name] for one in (compiled, eager, plain))
    assert (ours - theirs).norm() < 0.1 * (wide - theirs).norm()


def convolutions(classes, dtype):
    """Convolutions, whose penalised gradients have another memory layout than the weights."""
    G, _ = small_networks(classes, dtype, sample_shape=(1, 16, 16))
    return G, DCGANDiscriminator((1, 16, 16), hidden_dim=2, dtype=dtype)


@pytest.mark.parametrize("execution", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
@pytest.mark.parametrize("networks", [convolutions, two_replicas])
def test_gradients_lie_in_memory_as_their_parameters_do(traced_only, execution, networks):
    """Fused optimizers rely on it, and would update the wrong weights."""

    def run(fused):
        torch.manual_seed(0)
        shape = (6, 1, 16, 16) if networks is convolutions else (2, 6, *SHAPE)
        data = [torch.randn(shape, dtype=torch.float64) for _ in range(2)]
        optimizer = partial(torch.optim.Adam, lr=1e-2, eps=1e-4, fused=fused)
        return make(execution, networks=networks, optimizer=optimizer, regularizers=[R1()]).fit(data, steps=2)

    fused, one_by_one = run(True), run(False)
    for network in (fused.generator, fused.discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad.stride() == parameter.stride(), name
    assert_the_same_run(one_by_one, fused, rtol=1e-9, atol=1e-12)


def test_compiled_halves_move_the_buffers_of_batch_norm(traced_only):
    trainer = make("compile").fit(make_batches(), steps=1)
    norm = trainer.generator.network[0][1]
    before = norm.running_mean.clone(), norm.running_mean.data_ptr()
    trainer.fit(trainer.feed.batches, steps=4)
    assert norm.num_batches_tracked == 8
    assert not torch.equal(norm.running_mean, before[0])
    assert norm.running_mean.data_ptr() == before[1]


def test_another_size_of_batch_is_another_program(traced_only):
    data = [torch.randn(count, *SHAPE, dtype=torch.float64) for count in (6, 6, 4, 6)]
    eager, compiled = make("eager").fit(data, steps=4), make("compile").fit(data, steps=4)
    assert compiled.explain().programs == 4
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


def test_parameters_that_are_unfrozen_later_get_their_first_update_once(traced_only):
    def run(execution):
        trainer = make(execution)
        layer = trainer.discriminator.network[0]
        layer.requires_grad_(False)
        trainer.fit(data, steps=3)
        layer.requires_grad_(True)
        return trainer.fit(data, steps=6)

    data = make_batches()
    assert_the_same_run(run("eager"), run("compile"), rtol=1e-9, atol=1e-12)


def test_losses_that_are_made_in_each_step_are_never_mistaken_for_another():
    class Smoothing:
        def loss_at(self, step):
            return NonSaturating(label_smoothing=0.01 * step)

    trainer, signatures = make("compile", Smoothing()), []
    for step in range(20):  # the memory of a loss that is gone is used again soon
        trainer.state.steps_done = step
        signatures.append(step_of(trainer).signature())
    assert len(set(signatures)) == 20


@pytest.mark.parametrize("scheduled", [False, True])
def test_the_buffers_of_a_loss_move_once_a_step(traced_only, scheduled):
    loss = CountingLoss()
    make("compile", LossSchedule({0: loss}) if scheduled else loss).fit(make_batches(), steps=5)
    assert loss.count == 5
