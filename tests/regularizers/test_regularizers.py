"""What holds for every registered regularizer."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from gankit import REGULARIZERS, Spec, StepContext
from gankit.errors import BadArgumentsError, BadValueError
from gankit.protocols import Constraint, Regularizer, Stateful, part_name
from gankit.regularizers import Lecam, PathLength, WeightClipping
from tests.regularizers.networks import SHAPE, fixed_context, make_batches, make_trainer, weights

EVERY = pytest.mark.parametrize("name", REGULARIZERS.names())
PENALTIES = [name for name in REGULARIZERS.names() if isinstance(REGULARIZERS.build(name), Regularizer)]
EVERY_PENALTY = pytest.mark.parametrize("name", PENALTIES)

# passes that a penalty adds to those of the loss: of D, of D's features, of G
PASSES = {
    "balanced_consistency": (2, 0, 0),
    "consistency": (1, 0, 0),
    "dragan": (1, 0, 0),
    "feature_matching": (0, 2, 0),
    "layer_matching": (0, 2, 0),
    "lecam": (0, 0, 0),
    "logit_drift": (0, 0, 0),
    "mode_seeking": (0, 0, 0),
    "path_length": (0, 0, 0),
    "r1": (0, 0, 0),
    "r1_r2": (0, 0, 0),
    "r2": (0, 0, 0),
    "wasserstein_gradient_penalty": (1, 0, 0),
    "zero_centered_interpolated": (1, 0, 0),
}


def flip(x, *, generator):
    return x.flip(-1)


def without_chance(name: str):
    """The penalty, with an augmentation that draws nothing."""
    return REGULARIZERS.build(name, **({"augment": flip} if "consistency" in name else {}))


def gradients(network: nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in network.parameters() if p.grad is not None]


# --- what it is ------------------------------------------------------------------------------------------


@EVERY
def test_it_has_the_shape_of_a_regularizer_or_of_a_constraint(name):
    part = REGULARIZERS.build(name)
    assert isinstance(part, (Regularizer, Constraint))
    assert part.every >= 1
    assert REGULARIZERS.summary(name)


@EVERY
def test_an_object_goes_by_the_name_it_is_registered_under(name):
    assert part_name(REGULARIZERS.build(name)) == name


@EVERY
@pytest.mark.parametrize("argument", [{"every": 0}, {"every": -1}])
def test_impossible_numbers_are_refused(name, argument):
    with pytest.raises(BadValueError, match="every must be above 0"):
        REGULARIZERS.build(name, **argument)


@EVERY_PENALTY
def test_a_negative_or_undefined_weight_is_refused(name):
    arguments = [one for one in ("weight", "real_weight", "fake_weight") if REGULARIZERS.accepts(name, one)]
    assert arguments
    for argument in arguments:
        for weight in (-1.0, float("nan")):
            with pytest.raises(BadValueError, match=f"{argument} must be 0 or more, got "):
                REGULARIZERS.build(name, **{argument: weight})


def test_misspelt_arguments_are_refused_with_the_signature():
    with pytest.raises(
        BadArgumentsError,
        match=r"regularizer 'r1'\(weight: float = 10.0, every: int = 1, reduction: Reduction = 'mean', "
        r"sigma: float \| None = None\) got an unexpected argument 'wieght'\. "
        r"Did you mean 'weight'\?",
    ):
        REGULARIZERS.build("r1", wieght=1.0)


@pytest.mark.parametrize("name", ["lecam", "path_length"])
@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(name, decay):
    with pytest.raises(BadValueError, match=r"decay must be in \[0, 1\), got"):
        REGULARIZERS.build(name, decay=decay)


# --- in a trainer ----------------------------------------------------------------------------------------


@EVERY_PENALTY
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", ["plain", "batch_norm", "spectral_norm", "bfloat16"])
def test_it_trains(name, kind, conditional):
    trainer = make_trainer(
        regularizers={name: REGULARIZERS.build(name)},
        kind=kind,
        conditional=conditional,
        precision="bfloat16" if kind == "bfloat16" else "float32",
    )
    for batch in make_batches(3, conditional):
        results = trainer.step(batch)
        assert all(value.isfinite() for value in results.values())
        assert results[f"penalty/{name}"].dtype == torch.float32
        assert results[f"penalty/{name}"] >= 0
    for network in (trainer.generator, trainer.discriminator):
        assert all(p.isfinite().all() for p in network.parameters())


@EVERY_PENALTY
@pytest.mark.parametrize("conditional", [False, True])
def test_it_adds_the_passes_it_says_and_no_more(name, conditional):
    def passes(regularizers):
        trainer = make_trainer(regularizers=regularizers, conditional=conditional)
        trainer.step(*make_batches(1, conditional))
        return trainer.discriminator.calls, trainer.discriminator.feature_calls, trainer.generator.calls

    more = tuple(a - b for a, b in zip(passes({name: REGULARIZERS.build(name)}), passes({}), strict=True))
    assert more == ((0, 0, 1) if name == "mode_seeking" and conditional else PASSES[name])


@EVERY_PENALTY
def test_its_gradient_reaches_its_own_network_alone(name):
    part = REGULARIZERS.build(name)
    trainer = make_trainer(regularizers={name: part}, discriminator_warmup_steps=int(part.half == "discriminator"))
    D, G = trainer.discriminator, trainer.generator
    after_its_update = []
    trainer.discriminator_optimizer.register_step_post_hook(
        lambda *_: after_its_update.extend(g.clone() for g in gradients(D))
    )
    trainer.step(*make_batches(1))
    if part.half == "discriminator":
        assert gradients(G) == []  # the step was D's alone
    assert all(map(torch.equal, gradients(D), after_its_update))  # G's half left them alone


@EVERY_PENALTY
def test_it_is_felt_by_its_own_network_alone(name):
    part = REGULARIZERS.build(name)
    updates = {}
    for regularizers in ({}, {name: part}):
        trainer = make_trainer(regularizers=regularizers)
        trainer.step(*make_batches(1))
        updates[bool(regularizers)] = {
            "discriminator": torch.cat([p.detach().flatten() for p in trainer.discriminator.parameters()]),
            "generator": torch.cat([p.detach().flatten() for p in trainer.generator.parameters()]),
        }
    assert not torch.equal(updates[True][part.half], updates[False][part.half])
    if part.half == "generator":
        assert torch.equal(updates[True]["discriminator"], updates[False]["discriminator"])


@EVERY_PENALTY
def test_lazily_applied_it_is_as_strong_in_the_mean_and_the_log_shows_the_formula(name):
    batch = make_batches(1)[0]
    values, objectives = {}, {}
    for every in (1, 4):
        # nothing learns, so that the term's first value stands for all
        trainer = make_trainer(regularizers={name: REGULARIZERS.build(name, every=every)}, lr=0.0)
        half = trainer.regularizers[name].half
        compute, seen = getattr(trainer, f"{half}_objective"), objectives.setdefault(every, [])
        recorded = lambda context, compute=compute, seen=seen: seen.append(compute(context)) or seen[-1]  # noqa: E731
        setattr(trainer, f"{half}_objective", recorded)
        values[every] = [trainer.step(batch).get(f"penalty/{name}") for _ in range(5)]
    assert values[4][1:4] == [None] * 3
    assert values[4][4] is not None
    torch.testing.assert_close(values[4][0], values[1][0])
    torch.testing.assert_close(objectives[4][0][f"penalty/{name}"], 4 * objectives[1][0][f"penalty/{name}"])


@EVERY_PENALTY
def test_in_a_loop_of_ones_own_its_term_is_due_in_every_so_many_steps(name):
    trainer = make_trainer(regularizers={name: REGULARIZERS.build(name)})
    z = trainer.latent(6, generator=None, device=trainer.device).requires_grad_()
    real = make_batches(1)[0][:6]
    values = {}
    for every, step in itertools.product((1, 4), range(5)):
        part = REGULARIZERS.build(name, every=every)
        inputs = part.gradient_inputs - {"latent"}
        fake = trainer.generator(z)
        context = StepContext(
            discriminator=trainer.discriminator, generator=trainer.generator, real=real, fake=fake, latent=z,
            step=step, random=torch.Generator().manual_seed(0), gradient_inputs=inputs,
        )  # fmt: skip
        values[every, step] = part.term(context).mean()
    assert [float(values[4, step].detach()) for step in (1, 2, 3)] == [0, 0, 0]
    torch.testing.assert_close(values[4, 0], 4 * values[1, 0])
    torch.testing.assert_close(values[4, 4], 4 * values[1, 4])


@EVERY_PENALTY
def test_the_same_seed_gives_the_same_penalty_and_torchs_generator_stands_still(name):
    runs = []
    for seed in (0, 0, 1):
        trainer = make_trainer(regularizers={name: REGULARIZERS.build(name)}, seed=seed)
        before = torch.get_rng_state()
        runs.append([trainer.step(batch)[f"penalty/{name}"] for batch in make_batches(2)])
        assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, runs[0], runs[1]))
    # in the first step r1 and logit_drift read nothing that the seed decides, in the second all do
    assert not torch.equal(runs[0][1], runs[2][1])


@EVERY_PENALTY
def test_a_resumed_trainer_goes_on_to_the_last_bit(name):
    def trainer():
        return make_trainer(regularizers={name: REGULARIZERS.build(name)}, optimizer=torch.optim.Adam)

    first, *others = make_batches(4)
    straight = trainer()
    straight.step(first)
    resumed = trainer()
    state = copy.deepcopy(straight.state_dict())
    assert set(state["parts"]) == ({f"penalty/{name}"} if isinstance(straight.regularizers[name], Stateful) else set())
    resumed.load_state_dict(state)
    for batch in others:
        wanted = {key: value.clone() for key, value in straight.step(batch).items()}
        for key, value in resumed.step(batch).items():
            assert torch.equal(value, wanted[key]), key


def test_all_of_them_go_together_in_one_trainer():
    trainer = make_trainer(regularizers={name: REGULARIZERS.build(name) for name in REGULARIZERS.names()})
    for batch in make_batches(3):
        results = trainer.step(batch)
    assert {key for key in results if key.startswith("penalty/")} == {f"penalty/{name}" for name in PENALTIES}
    assert all(value.isfinite() for value in results.values())
    assert all(p.abs().max() <= 0.01 for p in trainer.discriminator.parameters())


# --- as a function of its networks' weights --------------------------------------------------------------


@EVERY_PENALTY
def test_its_gradient_is_the_one_of_finite_differences(name):
    own = ["g"] if without_chance(name).half == "generator" else ["a", "b"]
    w = weights()
    real, latent = torch.randn(3, *SHAPE, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    noise = torch.randn(3, *SHAPE, dtype=torch.float64)

    def frozen_averages(part):
        # the averages are constants to the gradient, so they must be constants to the differences too
        if isinstance(part, nn.Module):
            part.eval()
            for name, value in part.named_buffers():
                if value.is_floating_point():
                    setattr(part, name, torch.full((), 0.3, dtype=torch.float64))
        return part

    def penalty(*tensors):
        part = frozen_averages(without_chance(name))
        return part(fixed_context(part, **(w | dict(zip(own, tensors, strict=True))), **inputs))

    inputs = {"real": real, "latent": latent, "noise": noise}
    assert torch.autograd.gradcheck(penalty, [w[key].requires_grad_() for key in own])


@EVERY_PENALTY
def test_it_is_finite_and_so_is_its_gradient_where_all_weights_are_zero(name):
    trainer = make_trainer(regularizers={name: REGULARIZERS.build(name)})
    for network in (trainer.generator, trainer.discriminator):
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
    results = trainer.step(*make_batches(1))
    assert results[f"penalty/{name}"].isfinite()
    for network in (trainer.generator, trainer.discriminator):
        assert gradients(network)
        assert all(gradient.isfinite().all() for gradient in gradients(network))


@EVERY_PENALTY
def test_replicas_equal_a_loop_over_them(name):
    count = 3
    w = weights(count)
    inputs = {
        "real": torch.randn(count, 5, *SHAPE, dtype=torch.float64),
        "latent": torch.randn(count, 5, 3, dtype=torch.float64),
        "noise": torch.randn(count, 5, *SHAPE, dtype=torch.float64),
    }
    together, alone = without_chance(name), [without_chance(name) for _ in range(count)]
    for _ in range(2):  # the second call sees averages of the first
        values = together(fixed_context(together, **w, **inputs))
        one_by_one = [
            part(fixed_context(part, **{key: value[r] for key, value in (w | inputs).items()}))
            for r, part in enumerate(alone)
        ]
        assert values.shape == (count, 5)
        torch.testing.assert_close(values, torch.stack(one_by_one))
        inputs["real"] = inputs["real"] + 1
    if isinstance(together, nn.Module):
        again = without_chance(name)
        again.load_state_dict(together.state_dict())
        for buffer, wanted in zip(again.buffers(), together.buffers(), strict=True):
            assert torch.equal(buffer, wanted)


@EVERY_PENALTY
def test_it_is_linear_in_its_weight(name):
    arguments = [one for one in ("weight", "real_weight", "fake_weight") if REGULARIZERS.accepts(name, one)]
    more = {"augment": flip} if "consistency" in name else {}
    w = weights()
    inputs = {
        "real": torch.randn(4, *SHAPE, dtype=torch.float64),
        "latent": torch.randn(4, 3, dtype=torch.float64),
        "noise": torch.randn(4, *SHAPE, dtype=torch.float64),
    }
    values = []
    for weight in (0.0, 1.0, 2.5):
        part = REGULARIZERS.build(Spec(name, **dict.fromkeys(arguments, weight)), **more)
        values.append(part(fixed_context(part, **w, **inputs)))
    assert values[0].count_nonzero() == 0
    assert values[1].count_nonzero() > 0
    torch.testing.assert_close(values[2], 2.5 * values[1])


@pytest.mark.parametrize("build", [Lecam, PathLength])
def test_averages_stand_still_in_eval_mode(build):
    part = build().eval()
    before = {key: value.clone() for key, value in part.state_dict().items()}
    inputs = {
        "real": torch.randn(4, *SHAPE, dtype=torch.float64),
        "latent": torch.randn(4, 3, dtype=torch.float64),
        "noise": torch.randn(4, *SHAPE, dtype=torch.float64),
    }
    part(fixed_context(part, **weights(), **inputs))
    for key, value in part.state_dict().items():
        torch.testing.assert_close(value, before[key], check_dtype=False)


# --- the constraint --------------------------------------------------------------------------------------


def test_weight_clipping_bounds_every_parameter():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = [p.detach().clone() for p in network.parameters()]
    WeightClipping(bound=0.1).apply(network)
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.equal(new, old.clamp(-0.1, 0.1))


def test_weight_clipping_refuses_a_bound_of_zero():
    with pytest.raises(BadValueError, match="bound must be above 0"):
        WeightClipping(bound=0.0)
