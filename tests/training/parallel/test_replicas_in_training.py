"""Replicas that are trained side by side are the models that are trained alone."""

from __future__ import annotations

import io
from functools import partial

import pytest
import torch
from torch import nn

from gankit import LOSSES, OPTIMIZERS, REGULARIZERS, AdversarialTrainer, LossSchedule, Preset, Spec
from gankit.architectures import MLPDiscriminator, MLPGenerator, MultiScaleDiscriminator, PatchDiscriminator
from gankit.data import TensorData
from gankit.errors import BadArgumentsError, BadValueError, DataError, ShapeError
from gankit.latents import Normal
from gankit.losses import NonSaturating
from gankit.protocols import Regularizer
from gankit.training import Stacked
from tests.training.parallel.stacks import MLP, SHAPE, close
from tests.training.steps import CLASSES, block

SEED = 5


SMALL = Preset(
    name="small",
    data="mnist_5k",
    sample_shape=SHAPE,
    sample_range=None,
    latent=Spec("normal", latent_dim=3),
    generator="mlp",
    discriminator="mlp",
    loss="non_saturating",
    # a small eps makes whole steps of gradients that are zero but for rounding
    generator_optimizer=Spec("adam", lr=1e-2, eps=1e-4),
    discriminator_optimizer=Spec("adam", lr=1e-2, eps=1e-4),
    batch_size=6,
    steps=20,
)
DATA = TensorData(
    torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    torch.arange(32) % CLASSES,
)


def make(seed=SEED, replicas=None, classes=None, **options):
    networks = {
        "generator": partial(MLPGenerator, widths=(8,), block=block, dtype=torch.float64),
        "discriminator": partial(MLPDiscriminator, widths=(8,), dtype=torch.float64),
    }
    options = {"num_classes": classes} | networks | options
    return SMALL(device="cpu", seed=seed, replicas=replicas, log_every_steps=4, **options)


def make_batches(seed=SEED, replicas=None, classes=None):
    return SMALL.replace(num_classes=classes).batches(DATA, device="cpu", seed=seed, replicas=replicas)


def run(steps, seed=SEED, replicas=None, classes=None, **options):
    trainer = make(seed, replicas, classes, **options)
    return trainer.fit(make_batches(seed, replicas, classes), steps=steps)


def everything(trainer):
    modules = {"G": trainer.generator, "D": trainer.discriminator, "average": trainer.averaged_generator}
    modules |= {name: part for name, part in trainer.regularizers.items() if isinstance(part, nn.Module)}
    found = {f"metrics.{name}": value for name, value in trainer.metrics.items()}
    for name, module in modules.items():
        if module is not None:
            found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return found


def assert_each_replica_equals_the_run_of_its_own_seed(steps, replicas, bound=1e-9, **options):
    """`options` are functions: parts with averages are for one trainer each."""

    def build(**more):
        return run(steps, **more, **{name: option() for name, option in options.items()})

    together = build(replicas=replicas)
    for index in range(replicas):
        alone = build(seed=SEED + index)
        assert torch.equal(alone.randomness.noises[0].get_state(), together.randomness.noises[index].get_state())
        wanted, found = everything(alone), everything(together)
        assert wanted.keys() == found.keys()
        for name, value in wanted.items():
            # counters of parts are shared
            own = found[name] if found[name].shape == value.shape else found[name][index]
            torch.testing.assert_close(own, value, rtol=bound, atol=bound, msg=lambda text, name=name: name + text)


def test_each_replica_of_a_preset_is_the_model_that_its_seed_gives_alone():
    assert_each_replica_equals_the_run_of_its_own_seed(20, 3)


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_loss_keeps_replicas_apart(name):
    assert_each_replica_equals_the_run_of_its_own_seed(8, 2, loss=lambda: LOSSES.build(name))


@pytest.mark.parametrize("name", REGULARIZERS.names())
def test_every_regularizer_keeps_replicas_apart(name):
    assert_each_replica_equals_the_run_of_its_own_seed(8, 2, regularizers=lambda: [REGULARIZERS.build(name)])


@pytest.mark.parametrize("name", [n for n in REGULARIZERS.names() if isinstance(REGULARIZERS.build(n), Regularizer)])
def test_every_penalty_keeps_replicas_apart_in_a_conditional_model_too(name):
    assert_each_replica_equals_the_run_of_its_own_seed(
        3, 2, regularizers=lambda: [REGULARIZERS.build(name, every=2)], classes=lambda: CLASSES
    )


PATCHES = {"hidden_dim": 2, "depth": 1, "kernel_size": 3, "normalization": "spectral", "dtype": torch.float64}
OPTIONS = {
    "conditional": {"classes": lambda: CLASSES},
    "two discriminator steps": {"discriminator_steps": lambda: 2},
    "warm-up": {"discriminator_warmup_steps": lambda: 2},
    "averaging": {"averaging_decay": lambda: 0.8},
    "clipped gradients": {"max_gradient_norm": lambda: 0.05},
    "falling learning rates": {"learning_rate_decay": lambda: True},
    "shared generator forward": {"share_generator_forward": lambda: True},
    "simultaneous updates": {"simultaneous_updates": lambda: True, "max_gradient_norm": lambda: 0.05},
    "concatenated passes": {
        "concatenate_discriminator_passes": lambda: True,
        "regularizers": lambda: ["r1"],
    },
    "conditional concatenated passes": {
        "concatenate_discriminator_passes": lambda: True,
        "classes": lambda: CLASSES,
    },
    "schedule": {"loss": lambda: LossSchedule({0: "non_saturating", 4: "minimax"})},
    "uniform latents": {"latent": lambda: Spec("uniform", latent_dim=3)},
    "one-hot latents": {"latent": lambda: Spec("one_hot_normal", latent_dim=5, categories=3)},
    "minibatch_std": {
        "discriminator": lambda: partial(MLPDiscriminator, widths=(8,), minibatch_std=True, dtype=torch.float64)
    },
    "patches": {"discriminator": lambda: partial(PatchDiscriminator, **PATCHES), "regularizers": lambda: ["r1"]},
    "patches of two sizes": {
        "discriminator": lambda: partial(
            MultiScaleDiscriminator, scales=2, discriminator=partial(PatchDiscriminator, **PATCHES)
        ),
        "concatenate_discriminator_passes": lambda: True,
    },
    "packing": {
        "discriminator": lambda: Spec("packed", packing=2, discriminator=Spec("mlp", widths=(8,))),
        "generator": lambda: Spec("mlp", widths=(8,), block="linear_relu"),
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_keeps_replicas_apart(name):
    bound = 1e-4 if name == "packing" else 1e-9  # that one is in float32
    assert_each_replica_equals_the_run_of_its_own_seed(8, 2, bound, **OPTIONS[name])


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw", "nadam"])
def test_elementwise_optimizers_keep_replicas_apart(name):
    optimizer = Spec(name, lr=1e-2)
    assert_each_replica_equals_the_run_of_its_own_seed(
        6, 2, 1e-7, generator_optimizer=lambda: optimizer, discriminator_optimizer=lambda: optimizer
    )


def stacked_trainer(optimizer=torch.optim.SGD, replicas=(2, 2), seed=0, **options):
    torch.manual_seed(seed)
    G = Stacked([MLPGenerator(3, SHAPE, **MLP) for _ in range(replicas[0])])
    D = Stacked([MLPDiscriminator(SHAPE, **MLP) for _ in range(replicas[1])])
    return AdversarialTrainer(
        G,
        D,
        NonSaturating(),
        latent=Normal(3),
        generator_optimizer=optimizer(G.parameters()),
        discriminator_optimizer=optimizer(D.parameters()),
        **options,
    )


def test_an_optimizer_that_mixes_replicas_is_refused():
    with pytest.raises(BadArgumentsError, match="generator_optimizer must update each element by itself.*Adafactor"):
        stacked_trainer(torch.optim.Adafactor)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_an_optimizer_by_name_keeps_replicas_apart_or_is_refused(name):
    parameters = [nn.Parameter(torch.randn(2, 4, 3, dtype=torch.float64))]
    alone = nn.Parameter(parameters[0].detach()[1].clone())
    together, single = OPTIMIZERS.build(name, parameters), OPTIMIZERS.build(name, [alone])
    for _ in range(5):
        gradient = torch.randn(2, 4, 3, dtype=torch.float64)
        parameters[0].grad, alone.grad = gradient * torch.tensor([100.0, 1.0]).view(2, 1, 1), gradient[1].clone()
        together.step()
        single.step()
    mixes = not torch.allclose(parameters[0][1], alone, rtol=1e-9, atol=0)
    try:
        stacked_trainer(lambda parameters: OPTIMIZERS.build(name, parameters))
    except BadArgumentsError:
        assert mixes or name in ("adafactor",)
    else:
        assert not mixes


@pytest.mark.parametrize("replicas", [(2, 3), (1, 2)])
def test_both_networks_have_as_many_replicas(replicas):
    with pytest.raises(BadArgumentsError, match=f"got {replicas[0]} and {replicas[1]} replicas"):
        stacked_trainer(replicas=replicas)


def test_a_stack_does_not_meet_a_single_network():
    G, D = Stacked([MLPGenerator(3, SHAPE, **MLP)] * 2), MLPDiscriminator(SHAPE, **MLP)
    with pytest.raises(BadArgumentsError, match="got 2 and None replicas"):
        AdversarialTrainer(
            G,
            D,
            NonSaturating(),
            latent=Normal(3),
            generator_optimizer=torch.optim.SGD(G.parameters()),
            discriminator_optimizer=torch.optim.SGD(D.parameters()),
        )


@pytest.mark.parametrize("shape", [(6, *SHAPE), (3, 6, *SHAPE), (2, *SHAPE), (2,)])
def test_a_batch_that_is_not_one_a_replica_is_refused(shape):
    with pytest.raises((ShapeError, DataError)):
        stacked_trainer().step(torch.zeros(shape, dtype=torch.float64))


def test_a_preset_refuses_no_replicas():
    with pytest.raises(BadValueError, match="replicas must be above 0, got 0"):
        make(replicas=0)


# --- one replica does not feel another -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_gradient_norm": 0.1, "regularizers": ["r1", "lecam"]}])
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_replica_that_is_lost_takes_no_other_with_it(options, network):
    whole, hurt = make(replicas=3, averaging_decay=0.9, **options), make(replicas=3, averaging_decay=0.9, **options)
    with torch.no_grad():
        for parameter in getattr(hurt, network).parameters():
            parameter[1] = float("nan")
    for trainer in (whole, hurt):
        trainer.fit(make_batches(replicas=3), steps=5)
    assert everything(hurt)["metrics.generator_loss"][1].isnan()
    for name, value in everything(whole).items():
        if value.ndim:
            own = everything(hurt)[name]
            assert torch.equal(own[[0, 2]], value[[0, 2]]), name


def test_the_order_of_the_replicas_does_not_matter():
    trainer, batches = make(replicas=2), make_batches(replicas=2)
    trainer.fit(batches, steps=3)
    other = make(seed=SEED + 1, replicas=1).fit(make_batches(seed=SEED + 1, replicas=1), steps=3)
    for name, value in everything(other).items():
        torch.testing.assert_close(everything(trainer)[name][1:], value, rtol=1e-9, atol=1e-12, msg=name)


# --- results, samples and states -------------------------------------------------------------------------


def test_metrics_are_one_a_replica_and_read_as_mean_and_standard_deviation():
    trainer = run(4, replicas=3, max_gradient_norm=1.0, regularizers=["r1"])
    assert all(value.shape == (3,) for value in trainer.metrics.values())
    (row,) = trainer.history
    assert row["step"] == 4
    assert len(row) == 1 + 2 * len(trainer.metrics)
    for name, values in trainer.metrics.items():
        assert row[name] == pytest.approx(values.mean().item(), rel=1e-5)
        assert row[f"{name}/sd"] == pytest.approx(values.std().item(), rel=1e-4, abs=1e-7)


def test_one_replica_has_no_spread():
    row = run(4, replicas=1).history[-1]
    assert {row[name] for name in row if name.endswith("/sd")} == {0.0}


@pytest.mark.parametrize("averaging_decay", [None, 0.8])
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_samples_are_those_of_the_runs_of_the_single_seeds(classes, averaging_decay):
    options = {"classes": classes, "averaging_decay": averaging_decay}
    together = run(4, replicas=3, **options)
    condition = None if classes is None else torch.arange(5) % classes
    samples, unseeded = together.sample(5, condition, seed=9), together.sample(5, condition)
    assert samples.shape == (3, 5, *SHAPE)
    close(together.sample(5, condition, seed=9, batch_size=2), samples)
    for index in range(3):
        alone = run(4, seed=SEED + index, **options)
        torch.testing.assert_close(samples[index], alone.sample(5, condition, seed=9 + index), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(unseeded[index], alone.sample(5, condition), rtol=1e-9, atol=1e-9)


def test_each_replica_can_have_a_seed_of_its_own():
    trainer = run(1, replicas=3)
    samples = trainer.sample(5, seed=[9, 4, 9])
    close(samples[0], trainer.sample(5, seed=9)[0])
    close(samples[1], trainer.sample(5, seed=3)[1])
    close(samples[2], trainer.sample(5, seed=7)[2])
    with pytest.raises(BadValueError, match=r"seed must be one number, or 3, one per replica, got \[1, 2\]"):
        trainer.sample(5, seed=[1, 2])
    with pytest.raises(BadArgumentsError, match="seed must be an integer, got 'one'"):
        trainer.sample(5, seed=[1, 2, "one"])
    with pytest.raises(BadArgumentsError, match="seed must be an integer, got 'one'"):
        trainer.sample(5, seed="one")


@pytest.mark.parametrize("averaging_decay", [None, 0.8])
def test_a_replica_of_the_trainer_is_the_pair_that_was_trained(averaging_decay):
    trainer = run(4, replicas=2, averaging_decay=averaging_decay)
    G, D = trainer.replica(1)
    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(9 + 1))[:5].double()
    close(G.eval()(z), trainer.sample(5, seed=9)[1])
    x = torch.randn(5, *SHAPE, dtype=torch.float64)
    close(D(x), trainer.discriminator(x.expand(2, *x.shape))[1])
    with pytest.raises(BadValueError, match="replica must be from 0 to 1, got 2"):
        trainer.replica(2)


def test_a_trainer_of_single_networks_has_no_replicas():
    trainer = make()
    assert trainer.replicas is None
    with pytest.raises(BadValueError, match="trainer of Stacked networks, got one without replicas"):
        trainer.replica(0)


@pytest.mark.parametrize("execution", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
def test_a_loaded_state_continues_to_the_last_bit(monkeypatch, execution):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)  # Inductor takes many seconds

    def trainer():
        parts = ["lecam", "path_length"]
        return make(replicas=2, averaging_decay=0.9, regularizers=parts, execution=execution)

    whole = trainer().fit(make_batches(replicas=2), steps=8)
    first, batches = trainer(), make_batches(replicas=2)
    first.fit(batches, steps=4)
    file = io.BytesIO()
    torch.save((first.state_dict(), batches.state_dict()), file)
    file.seek(0)
    state, place = torch.load(file, weights_only=True)
    second, batches = trainer(), make_batches(seed=1, replicas=2)
    second.load_state_dict(state)
    batches.load_state_dict(place)
    second.fit(batches, steps=8)
    assert second.explain().mode == execution
    for name, value in everything(whole).items():
        assert torch.equal(everything(second)[name], value), name
    assert torch.equal(whole.sample(3), second.sample(3))


@pytest.mark.parametrize(("saved", "own"), [(3, 2), (None, 2), (2, None)])
def test_the_state_of_another_number_of_replicas_is_refused(saved, own):
    state = run(1, replicas=saved).state_dict()
    with pytest.raises((BadArgumentsError, RuntimeError, ValueError)):
        make(replicas=own).load_state_dict(state)
