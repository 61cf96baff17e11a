from __future__ import annotations

import io
import itertools
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gankit import LossSchedule
from gankit.data import TensorBatches
from gankit.errors import BadArgumentsError, BadValueError, DataError, DeviceError, ShapeError
from gankit.losses import Minimax, NonSaturating
from gankit.regularizers import R1, WeightClipping

SHAPE = (1, 4, 4)


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in network.state_dict().values()]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Recorder(nn.Module):
    """A network that records how it is called."""

    def __init__(self, network: nn.Module, log: list) -> None:
        super().__init__()
        self.network = network
        self.log = log

    def forward(self, x, condition=None):
        self.log.append(
            {
                "input": x.detach().clone(),
                "training": self.training,
                "graph": torch.is_grad_enabled(),
                "frozen": not any(p.requires_grad for p in self.parameters()),
                "condition": condition,
            }
        )
        return self.network(x)


class HostReads(TorchDispatchMode):
    """Counts the numbers that are read on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return function(*args, **(kwargs or {}))


# --- the algorithm ---------------------------------------------------------------------------------------


def recorded(make_trainer, **options):
    plain = make_trainer()
    log_G, log_D = [], []
    trainer = make_trainer(Recorder(plain.generator, log_G), Recorder(plain.discriminator, log_D), **options)
    log_G.clear(), log_D.clear()  # of the check of shapes
    return trainer, log_G, log_D


def test_d_is_trained_first_then_g_each_with_fresh_noise(make_trainer, batches):
    trainer, log_G, log_D = recorded(make_trainer)
    trainer.step(batches[0])
    assert [call["graph"] for call in log_G] == [False, True]
    assert not torch.equal(log_G[0]["input"], log_G[1]["input"])
    assert [call["frozen"] for call in log_D] == [False, False, True]
    assert torch.equal(log_D[0]["input"], batches[0])
    assert all(call["training"] for call in log_G + log_D)


def test_no_gradient_crosses_between_the_halves(make_trainer, batches):
    d_alone, both = make_trainer(discriminator_warmup_steps=1), make_trainer()
    d_alone.step(batches[0])
    both.step(batches[0])
    assert all(p.grad is None for p in d_alone.generator.parameters())
    assert all(p.grad is not None for p in both.generator.parameters())
    for alone, after_g in zip(d_alone.discriminator.parameters(), both.discriminator.parameters(), strict=True):
        assert torch.equal(alone.grad, after_g.grad)
        assert after_g.requires_grad


def test_each_discriminator_step_takes_a_batch_of_its_own(make_trainer, batches):
    trainer, _, log_D = recorded(make_trainer, discriminator_steps=3)
    trainer.fit(batches, steps=1)
    reals = [call["input"] for call in log_D[:6:2]]
    assert all(torch.equal(real, batch) for real, batch in zip(reals, batches, strict=False))


def test_warm_up_trains_d_alone(make_trainer, batches):
    trainer = make_trainer(discriminator_warmup_steps=2, averaging_decay=0.5)
    before = weights(trainer.generator.get_submodule("0")), weights(trainer.discriminator)
    results = trainer.step(batches[0])
    assert "generator_loss" not in results
    trainer.step(batches[1])
    assert same(before[0], weights(trainer.generator.get_submodule("0")))
    assert not same(before[1], weights(trainer.discriminator))
    assert "generator_loss" in trainer.step(batches[2])
    assert not same(before[0], weights(trainer.generator.get_submodule("0")))


def test_the_schedule_says_which_loss_is_active(make_trainer, batches):
    trainer = make_trainer(loss=LossSchedule({0: "non_saturating", 2: "minimax"}))
    active = []
    for _ in range(4):
        active.append(type(trainer.loss))
        trainer.step(batches[0])
    assert active == [NonSaturating, NonSaturating, Minimax, Minimax]


def test_a_relativistic_generator_loss_reads_d_of_real_without_a_graph(make_trainer, batches):
    class Pair:
        needs_real_logits: ClassVar[bool] = True
        seen: ClassVar[list] = []

        def discriminator_loss(self, real_logits, fake_logits):
            return nn.functional.softplus(fake_logits - real_logits)

        def generator_loss(self, fake_logits, real_logits=None):
            self.seen.append((fake_logits.requires_grad, real_logits.requires_grad))
            return nn.functional.softplus(real_logits - fake_logits)

    make_trainer(loss=Pair()).step(batches[0])
    assert Pair.seen == [(True, False)]


def test_conditions_reach_both_networks(make_trainer, batches):
    trainer, log_G, log_D = recorded(make_trainer)
    labels = torch.arange(6)
    trainer.step((batches[0], labels))
    training_calls = log_G[-2:] + log_D[-3:]
    assert all(torch.equal(call["condition"], labels) for call in training_calls)


def test_the_objectives_can_be_overridden(make_trainer, batches):
    trainer = make_trainer()

    class Own(type(trainer)):
        def generator_objective(self, context):
            return super().generator_objective(context) | {"pull": context.fake.flatten(1).square().mean(1)}

    trainer.__class__ = Own
    assert "pull" in trainer.step(batches[0])


# --- penalties and constraints ---------------------------------------------------------------------------


def test_r1_costs_no_forward_pass(make_trainer, batches):
    counts = []
    for regularizers in ([], [R1()]):
        trainer, log_G, log_D = recorded(make_trainer, regularizers=regularizers)
        trainer.step(batches[0])
        counts.append((len(log_G), len(log_D)))
    assert counts == [(2, 3), (2, 3)]


def test_a_lazy_penalty_is_due_every_so_often_and_stronger_by_that(make_trainer, batches):
    every_step = make_trainer(regularizers=[R1(weight=2.0)]).step(batches[0])["penalty/r1"]
    trainer = make_trainer(regularizers={"lazy": R1(weight=2.0, every=3)})
    results = [trainer.step(batches[0]) for _ in range(4)]
    assert ["penalty/lazy" in one for one in results] == [True, False, False, True]
    torch.testing.assert_close(results[0]["penalty/lazy"], 3 * every_step)
    assert "penalty/lazy" in trainer.metrics


def test_weight_clipping_holds_after_every_step(make_trainer, batches):
    trainer = make_trainer(regularizers=[WeightClipping(bound=0.05)])
    trainer.step(batches[0])
    assert max(p.abs().max() for p in trainer.discriminator.parameters()) <= 0.05
    assert max(p.abs().max() for p in trainer.generator.parameters()) > 0.05


def test_gradients_are_clipped_for_each_network(make_trainer, batches):
    trainer = make_trainer(max_gradient_norm=1e-3, optimizer=torch.optim.SGD)
    before = [p.detach().clone() for p in trainer.discriminator.parameters()]
    results = trainer.step(batches[0])
    moved = torch.cat([(p - b).flatten() for p, b in zip(trainer.discriminator.parameters(), before, strict=True)])
    assert results["discriminator_gradient_norm"] > 1e-3
    assert moved.norm().item() == pytest.approx(1e-3 * 1e-2, rel=1e-3)
    assert results["generator_gradient_norm"].ndim == 0


# --- metrics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_tensor", [False, True])
def test_learning_rates_go_linearly_to_zero(make_trainer, batches, as_tensor):
    trainer = make_trainer(learning_rate_decay_steps=4)
    optimizers = (trainer.generator_optimizer, trainer.discriminator_optimizer)
    if as_tensor:
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = torch.tensor(1e-2)
    seen = []
    for step in range(1, 5):
        trainer.fit(batches, steps=step)
        seen.append([float(optimizer.param_groups[0]["lr"]) for optimizer in optimizers])
    assert seen == [[pytest.approx(1e-2 * factor)] * 2 for factor in (1.0, 0.75, 0.5, 0.25)]
    with pytest.raises(BadValueError, match="learning_rate_decay_steps, after which .* zero, 4, got 5"):
        trainer.fit(batches, steps=5)


def test_decayed_learning_rates_equal_torchs_scheduler(make_trainer, batches):
    ours = make_trainer(learning_rate_decay_steps=5).fit(batches, steps=4)
    theirs = make_trainer()
    schedulers = [
        torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=5)
        for optimizer in (theirs.generator_optimizer, theirs.discriminator_optimizer)
    ]
    for step in range(1, 5):
        theirs.fit(batches, steps=step)
        for scheduler in schedulers:
            scheduler.step()
    for mine, other in zip(ours.generator.parameters(), theirs.generator.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_a_step_reads_nothing_on_the_host_and_returns_0d_tensors(make_trainer, batches):
    # torch's unfused Adam reads its step count, which it keeps on the host
    trainer = make_trainer(regularizers=[R1()], averaging_decay=0.9, optimizer=torch.optim.SGD)
    trainer.step(batches[0])
    with HostReads() as reads:
        results = trainer.step(batches[1])
    assert reads.count == 0
    assert set(results) == {
        "discriminator_loss",
        "generator_loss",
        "penalty/r1",
        "real_score",
        "fake_score",
        "real_accuracy",
        "fake_accuracy",
    }
    assert all(value.ndim == 0 and not value.requires_grad for value in results.values())


def test_scores_are_probabilities_for_log_odds_and_raw_for_critics(make_trainer, batches):
    class Critic:
        needs_real_logits = False

        def discriminator_loss(self, real_logits, fake_logits):
            return fake_logits - real_logits

        def generator_loss(self, fake_logits, real_logits=None):
            return -fake_logits

    trainer = make_trainer()
    logits = trainer.discriminator(batches[0])
    odds = trainer.step(batches[0])["real_score"]
    torch.testing.assert_close(odds, logits.sigmoid().mean())
    raw = make_trainer(loss=Critic()).step(batches[0])
    torch.testing.assert_close(raw["real_score"], logits.mean())
    assert "real_accuracy" not in raw


def test_fit_reads_the_metrics_every_log_every_steps(make_trainer, batches):
    trainer = make_trainer(log_every_steps=4).fit(batches, steps=10)
    assert [row["step"] for row in trainer.history] == [4, 8]
    assert all(isinstance(value, (int, float)) for row in trainer.history for value in row.values())


# --- fit -------------------------------------------------------------------------------------------------


def test_fit_counts_the_total_and_goes_on_in_the_middle_of_an_epoch(make_trainer, batches):
    at_once = make_trainer().fit(batches, steps=7)
    in_two = make_trainer().fit(batches, steps=3)
    assert in_two.steps_done == 3
    in_two.fit(batches, steps=7).fit(batches, steps=7)
    assert in_two.steps_done == 7
    assert same(weights(at_once.generator), weights(in_two.generator))


def test_fit_takes_an_endless_iterator(make_trainer, batches):
    assert make_trainer().fit(itertools.cycle(batches), steps=9).steps_done == 9


def test_fit_refuses_steps_in_the_past(make_trainer, batches):
    trainer = make_trainer().fit(batches, steps=3)
    with pytest.raises(BadValueError, match="3 are already done, so it must be 3 or more, got 2"):
        trainer.fit(batches, steps=2)


@pytest.mark.parametrize("empty", [[], iter(())])
def test_fit_refuses_batches_that_are_empty(make_trainer, empty):
    with pytest.raises(DataError, match="not empty"):
        make_trainer().fit(empty, steps=1)


def test_fit_says_when_a_generator_of_batches_runs_out(make_trainer, batches):
    trainer = make_trainer()
    with pytest.raises(DataError, match="iterated over again"):
        trainer.fit((batch for batch in batches), steps=10)
    assert trainer.steps_done == 4


def test_callbacks_are_called_every_so_often(make_trainer, batches):
    class Note:
        every = 3
        seen: ClassVar[list] = []

        def __call__(self, trainer):
            self.seen.append(trainer.steps_done)

    make_trainer(callbacks=[Note()]).fit(batches, steps=10)
    assert Note.seen == [3, 6, 9]


def test_stop_ends_fit_after_the_step(make_trainer, batches):
    class Stop:
        every = 5

        def __call__(self, trainer):
            trainer.stop()

    trainer = make_trainer(callbacks=[Stop()]).fit(batches, steps=100)
    assert trainer.steps_done == 5
    trainer.fit(batches, steps=8)
    assert trainer.steps_done == 8


def test_stop_before_fit_ends_it_at_once(make_trainer, batches):
    trainer = make_trainer()
    trainer.stop()
    assert trainer.fit(batches, steps=5).steps_done == 0
    assert trainer.fit(batches, steps=5).steps_done == 5


def test_the_state_of_a_scheduled_loss_is_saved(make_trainer):
    class Counting(nn.Module, NonSaturating):
        def __init__(self):
            nn.Module.__init__(self)
            self.register_buffer("count", torch.zeros(()))

    first = make_trainer(loss=LossSchedule({0: Counting(), 5: "minimax"}))
    first.loss.count.fill_(7.0)
    second = make_trainer(loss=LossSchedule({0: Counting(), 5: "minimax"}))
    second.load_state_dict(first.state_dict())
    assert second.loss.count == 7.0


def test_nan_in_a_stream_is_reported_with_the_logs(make_trainer, batches):
    batches[2][0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="finite, got NaN or infinite values in the 4 steps before step 4"):
        make_trainer(log_every_steps=4).fit(batches, steps=8)


# --- sampling --------------------------------------------------------------------------------------------


def test_sampling_is_in_eval_mode_without_a_graph_and_restores_the_modes(make_trainer):
    log = []
    trainer = make_trainer()
    trainer.generator = Recorder(trainer.generator, log)
    trainer.generator.network[1].eval()
    images = trainer.sample(5)
    assert images.shape == (5, *SHAPE)
    assert not images.requires_grad
    assert log[-1]["training"] is False
    assert trainer.generator.training
    assert trainer.generator.network[1].training is False


def test_sampling_does_not_change_the_training(make_trainer, batches):
    quiet = make_trainer().fit(batches, steps=4)
    chatty = make_trainer().fit(batches, steps=2)
    chatty.sample(7)
    chatty.sample(7, seed=3)
    chatty.fit(batches, steps=4)
    assert same(weights(quiet.generator), weights(chatty.generator))


def test_a_seed_fixes_the_samples_and_their_number_a_pass_does_not_matter(make_trainer):
    trainer = make_trainer()
    assert torch.equal(trainer.sample(9, seed=1), trainer.sample(9, seed=1))
    torch.testing.assert_close(trainer.sample(9, seed=1), trainer.sample(9, seed=1, batch_size=2))
    assert not torch.equal(trainer.sample(9), trainer.sample(9))


def test_samples_come_from_the_averaged_generator(make_trainer, batches):
    trainer = make_trainer(averaging_decay=0.9).fit(batches, steps=5)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(trainer.sample(4, seed=1), trainer.averaged_generator(z))
    assert not torch.equal(trainer.averaged_generator(z), trainer.generator.eval()(z))


# --- state -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"averaging_decay": 0.9, "discriminator_steps": 2, "regularizers": [R1()]},
        {"learning_rate_decay_steps": 20},
    ],
)
def test_a_loaded_state_continues_to_the_last_bit(make_trainer, options):
    def data():
        samples = torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(2))
        return TensorBatches(samples, batch_size=6, sample_range=None)

    def network():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.3), nn.Linear(8, 1), nn.Flatten(0))

    whole = make_trainer(discriminator=network(), **options).fit(data(), steps=11)

    first = make_trainer(discriminator=network(), **options)
    first_data = data()
    first.fit(first_data, steps=4)
    file = io.BytesIO()
    torch.save({"trainer": first.state_dict(), "data": first_data.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    second, second_data = make_trainer(discriminator=network(), **options), data()
    torch.manual_seed(99)  # dropout's generator is part of the state
    second.load_state_dict(state["trainer"])
    second_data.load_state_dict(state["data"])
    second.fit(second_data, steps=11)
    assert second.steps_done == 11
    for name in ("generator", "discriminator"):
        assert same(weights(getattr(whole, name)), weights(getattr(second, name)))
    assert torch.equal(whole.sample(3), second.sample(3))


def test_a_state_of_another_kind_is_refused(make_trainer):
    trainer = make_trainer()
    with pytest.raises(BadArgumentsError, match="state_dict of format 1, got None"):
        trainer.load_state_dict({})
    with pytest.raises(BadArgumentsError, match="without averaging_decay, this one is with"):
        make_trainer(averaging_decay=0.5).load_state_dict(trainer.state_dict())


# --- precision -------------------------------------------------------------------------------------------


def test_bfloat16_gives_the_losses_in_float32_and_uses_the_updated_weights(make_trainer, batches):
    seen = []

    class Watch(NonSaturating):
        def generator_loss(self, fake_logits, real_logits=None):
            seen.append(fake_logits)
            return super().generator_loss(fake_logits, real_logits)

    trainer = make_trainer(loss=Watch(), precision="bfloat16", regularizers=[R1()])
    inputs = []
    trainer.discriminator.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    # a large step of D, so that logits by its old weights would differ
    trainer.discriminator_optimizer = torch.optim.SGD(trainer.discriminator.parameters(), lr=5.0)
    trainer.step(batches[0])
    assert seen[0].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(trainer.discriminator(inputs[2]).float(), seen[0])


# --- what is refused -------------------------------------------------------------------------------------


def test_networks_that_do_not_fit_the_latent_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"the generator Sequential does not fit inputs of shape \(2, 3\)"):
        make_trainer(nn.Sequential(nn.Linear(4, 16), nn.Unflatten(1, SHAPE)))


def test_networks_that_do_not_fit_each_other_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"the discriminator Sequential does not fit inputs of shape \(2, 1, 4, 4\)"):
        make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(20, 1), nn.Flatten(0)))


def test_logits_that_are_not_n_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"logits of shape \(2,\), got \(2, 1\); \(N, 1\) becomes \(N,\) by"):
        make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 1)))


def test_without_a_latent_shape_they_are_refused_at_the_first_batch(make_trainer, batches):
    def latent(count, *, generator, device):
        return torch.randn(count, 3, generator=generator, device=device)

    trainer = make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), latent=latent)
    with pytest.raises(ShapeError, match=r"logits of shape \(6,\), got \(6, 1\)"):
        trainer.step(batches[0])
    with pytest.raises(ShapeError, match=r"real samples' shape \(6, 2, 2\), got \(6, 1, 4, 4\)"):
        make_trainer(latent=latent).step(torch.randn(6, 2, 2))


def test_the_check_of_shapes_leaves_no_trace(make_trainer):
    G = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Unflatten(1, SHAPE))
    before = weights(G)

    class Latent:
        shape = (3,)

        def __call__(self, count, *, generator, device):
            raise AssertionError("no draw from the latent")

    trainer = make_trainer(G, latent=Latent())
    assert same(before, weights(trainer.generator))


def test_the_check_of_shapes_moves_no_default_generator(make_trainer):
    from gankit.training.step.checks import check_shapes

    G = nn.Sequential(nn.Linear(3, 16), nn.Dropout(), nn.Unflatten(1, SHAPE))
    D = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))
    before = torch.get_rng_state()
    check_shapes(G, D, (3,))
    assert torch.equal(before, torch.get_rng_state())


def test_a_generator_that_reads_the_host_is_left_to_the_first_batch(make_trainer, batches):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 16)

        def forward(self, z):
            return self.linear(z).unflatten(1, SHAPE) * float(z.abs().max().item() > 0)

    assert make_trainer(Reads()).fit(batches, steps=2).steps_done == 2


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        (torch.zeros(6, 1, 5, 5), ShapeError, r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"),
        (torch.zeros(6, *SHAPE, dtype=torch.uint8), DataError, "floating point, got torch.uint8"),
        (torch.zeros(1, *SHAPE), DataError, "2 samples or more for BatchNorm, got 1"),
        (torch.zeros(0, *SHAPE), DataError, "2 samples or more for BatchNorm, got 0"),
        ("digits", DataError, r"must be `real` or `\(real, condition\)`, got str"),
        ((torch.zeros(6, *SHAPE), torch.zeros(5)), ShapeError, "one entry a sample, got 5 for 6"),
        (
            (torch.zeros(6, *SHAPE), torch.zeros(6)),
            BadArgumentsError,
            r"carry a condition of shape \(6,\), which the generator Sequential does not take",
        ),
    ],
    ids=["shape", "bytes", "one sample", "no sample", "no tensor", "short condition", "unwanted condition"],
)
def test_a_bad_batch_is_refused_in_one_sentence(make_trainer, batch, error, says):
    with pytest.raises(error, match=says):
        make_trainer().step(batch)


def test_step_wants_one_batch_a_discriminator_step(make_trainer, batches):
    with pytest.raises(BadValueError, match="each of the 2 discriminator_steps, got 1"):
        make_trainer(discriminator_steps=2).step(batches[0])
    assert "generator_loss" in make_trainer(discriminator_steps=2).step(*batches[:2])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"loss": "minimax"}, BadArgumentsError, "names are for presets and LOSSES.build"),
        ({"discriminator_steps": 0}, BadValueError, "discriminator_steps must be above 0, got 0"),
        ({"discriminator_warmup_steps": -1}, BadValueError, "discriminator_warmup_steps must be 0 or more"),
        ({"averaging_decay": 1.0}, BadValueError, r"averaging_decay must be in \[0, 1\), got 1.0"),
        ({"max_gradient_norm": float("nan")}, BadValueError, "max_gradient_norm must be above 0, got nan"),
        ({"precision": "float16"}, BadValueError, "precision must be one of float32, bfloat16, tf32, got 'float16'"),
        ({"log_every_steps": 0}, BadValueError, "log_every_steps must be above 0"),
        ({"generator_optimizer": "adam"}, BadArgumentsError, "must be a torch.optim.Optimizer over the generator's"),
        ({"regularizers": [object()]}, BadArgumentsError, "regularizer 'object' must have"),
        ({"regularizers": [R1(), R1()]}, BadValueError, "two regularizers are called 'r1'"),
        ({"generator": object()}, BadArgumentsError, "generator must be a torch.nn.Module"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_a_bad_argument_is_refused_in_one_sentence(make_trainer, options, error, says):
    if isinstance(options.get("generator"), nn.Module) or "generator" not in options:
        with pytest.raises(error, match=says):
            make_trainer(**options)
    else:
        whole = make_trainer()
        with pytest.raises(error, match=says):
            type(whole)(
                options["generator"],
                whole.discriminator,
                whole.loss,
                latent=whole.latent,
                generator_optimizer=whole.generator_optimizer,
                discriminator_optimizer=whole.discriminator_optimizer,
            )


def test_an_optimizer_of_another_network_is_refused(make_trainer):
    with pytest.raises(BadArgumentsError, match="must hold the generator's parameters, got 2 of 2 that are not"):
        make_trainer(generator_optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))


def test_networks_on_two_devices_are_refused(make_trainer):
    with pytest.raises(DeviceError, match="one device, got cpu and meta"):
        make_trainer(
            discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 1, device="meta"), nn.Flatten(0)),
        )


def test_a_loss_that_reduces_is_refused(make_trainer, batches):
    class Mean(NonSaturating):
        def generator_loss(self, fake_logits, real_logits=None):
            return super().generator_loss(fake_logits).mean()

    with pytest.raises(ShapeError, match=r"generator_loss must have the logits' shape \(6,\).*leave the mean"):
        make_trainer(loss=Mean()).step(batches[0])
