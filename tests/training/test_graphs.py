"""Captured steps: what is put back after building one, and, with CUDA, that replays are the steps they stand for."""

from __future__ import annotations

import gc
import io
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gankit import LossSchedule
from gankit.data import SampledBatches, TensorBatches, TensorData
from gankit.data import ring as ring_data
from gankit.errors import CannotCaptureError, ExecutionWarning
from gankit.losses import Minimax, NonSaturating, Wasserstein
from gankit.presets import dcgan_mnist, ring, vanilla_mnist
from gankit.regularizers import R1, Consistency, Lecam, PathLength, WassersteinGradientPenalty
from gankit.training import WeightAverage
from gankit.training.execution.graphs import GraphContext
from gankit.training.execution.undo import undone
from gankit.training.step import learning_rates
from gankit.training.step.averaging import move_towards
from tests.training.steps import (
    CLASSES,
    SHAPE,
    adam,
    assert_equal,
    counts,
    everything,
    make,
    make_batches,
    randoms,
    small_networks,
    stacked,
    step_of,
    with_dropout,
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


class Counting(nn.Module, Minimax):
    """A loss with a buffer."""

    def __init__(self):
        nn.Module.__init__(self)
        self.register_buffer("count", torch.zeros(()))

    def discriminator_loss(self, real_logits, fake_logits):
        self.count += 1
        return Minimax.discriminator_loss(Minimax(), real_logits, fake_logits)


# --- what is put back ------------------------------------------------------------------------------------


STATES = {
    "adam": dict,
    "momentum": lambda: {"optimizer": partial(torch.optim.SGD, lr=1e-2, momentum=0.9)},
    "plain sgd": lambda: {"optimizer": partial(torch.optim.SGD, lr=1e-2)},
    "rmsprop": lambda: {"optimizer": partial(torch.optim.RMSprop, lr=1e-2)},
    "nadam": lambda: {"optimizer": partial(torch.optim.NAdam, lr=1e-2)},
    "averaging": lambda: {"averaging_decay": 0.9},
    "parts": lambda: {"regularizers": [R1(), Lecam(), PathLength()]},
    "loss": lambda: {"loss": Counting()},
    "scheduled loss": lambda: {"loss": LossSchedule({0: Counting()})},
}


@pytest.mark.parametrize("case", STATES)
@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back_whatever_happened(case, fails):
    trainer = make(networks=with_dropout, **STATES[case]())
    for batch in make_batches()[:2]:
        trainer.step(batch)
    before = everything(trainer), randoms(trainer), counts(trainer)
    places = {name: value.data_ptr() for name, value in trainer.generator.state_dict().items()}
    step = step_of(trainer)
    try:
        with undone(trainer.state):
            for batch in make_batches():
                step([(batch, None)])
            assert everything(trainer).keys() == before[0].keys()
            assert not torch.equal(everything(trainer)["G.network.1.weight"], before[0]["G.network.1.weight"])
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert_equal(everything(trainer), before[0])
    assert all(torch.equal(one, other) for one, other in zip(randoms(trainer), before[1], strict=True))
    assert counts(trainer) == before[2]
    assert {name: value.data_ptr() for name, value in trainer.generator.state_dict().items()} == places


@pytest.mark.parametrize("case", STATES)
def test_training_goes_on_as_if_nothing_had_been_tried(case):
    undisturbed = make(networks=with_dropout, **STATES[case]()).fit(make_batches(), steps=6)
    wanted = randoms(undisturbed)
    trainer = make(networks=with_dropout, **STATES[case]())
    data = make_batches()
    for steps in (2, 4, 6):
        trainer.fit(data, steps=steps)
        with undone(trainer.state):
            step_of(trainer)([(data[0], None)])
    assert_equal(everything(trainer), everything(undisturbed))
    assert all(torch.equal(a, b) for a, b in zip(randoms(trainer), wanted, strict=True))


def test_a_first_step_that_is_undone_was_none():
    """The optimizers' states did not exist before it."""
    undisturbed, trainer = make(), make()
    with undone(trainer.state):
        step_of(trainer)([(make_batches()[0], None)])
    assert not trainer.generator_optimizer.state
    assert not trainer.discriminator_optimizer.state
    undisturbed.fit(make_batches(), steps=2)
    trainer.fit(make_batches(), steps=2)
    assert_equal(everything(trainer), everything(undisturbed))


def test_further_generators_are_put_back():
    trainer, source = make(), SampledBatches(ring_data(), batch_size=4)
    before = [one.get_state() for one in source.generators]
    with undone(trainer.state, source.generators):
        source.read(0)
    assert all(torch.equal(state, one.get_state()) for state, one in zip(before, source.generators, strict=True))


def test_replicas_are_put_back():
    trainer = make(networks=stacked(small_networks, 2))
    batch = torch.randn(2, 6, *SHAPE)
    trainer.step(batch)
    before = everything(trainer), [one.get_state() for one in trainer.randomness.noises]
    with undone(trainer.state):
        step_of(trainer)([(batch, None)])
    assert_equal(everything(trainer), before[0])
    assert all(torch.equal(a, b.get_state()) for a, b in zip(before[1], trainer.randomness.noises, strict=True))


# --- what a captured step must not do --------------------------------------------------------------------


def test_a_captured_step_refuses_its_number():
    context = GraphContext(discriminator=nn.Flatten(0), real=torch.zeros(2, 1), step=7)
    with pytest.raises(CannotCaptureError, match="a part reads context.step, which changes from step to step"):
        _ = context.step
    assert context.logits("real").shape == (2,)


# --- optimizers ------------------------------------------------------------------------------------------


def test_a_capturable_adam_has_its_numbers_in_tensors():
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.Adam([{"params": [layer.weight], "lr": 0.1}, {"params": [layer.bias], "lr": 0.2}])
    learning_rates.put_on_device(optimizer, torch.device("cpu"))
    assert [group["capturable"] for group in optimizer.param_groups] == [True, True]
    assert [group["lr"].item() for group in optimizer.param_groups] == [pytest.approx(0.1), pytest.approx(0.2)]
    rates = [group["lr"] for group in optimizer.param_groups]
    learning_rates.put_on_device(optimizer, torch.device("cpu"))
    assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))


def test_a_capturable_adam_keeps_its_count_of_steps():
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters())
    for _ in range(3):
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    learning_rates.put_on_device(optimizer, torch.device("cpu"))
    assert [state["step"].item() for state in optimizer.state.values()] == [3.0, 3.0]
    assert {state["step"].dtype for state in optimizer.state.values()} == {torch.float32}


def test_an_optimizer_that_cannot_be_capturable_stays_as_it_is():
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1, momentum=0.9)
    learning_rates.put_on_device(optimizer, torch.device("cpu"))
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert "capturable" not in optimizer.param_groups[0]


@pytest.mark.parametrize("optimizer", [adam, partial(adam, fused=True)])
def test_the_state_of_a_captured_run_goes_on_on_the_cpu(optimizer):
    captured = make(optimizer=optimizer).fit(make_batches(), steps=3)
    plain = make(optimizer=optimizer)
    plain.load_state_dict(captured.state_dict())
    for one in (captured.generator_optimizer, captured.discriminator_optimizer):
        learning_rates.put_on_device(one, torch.device("cpu"))  # as on a CUDA device
    file = io.BytesIO()
    torch.save(captured.state_dict(), file)
    file.seek(0)
    trainer = make(optimizer=optimizer)
    trainer.load_state_dict(torch.load(file, weights_only=True))
    for one in (trainer, plain):
        for batch in make_batches():
            one.step(batch)
    for name, value in everything(plain).items():
        torch.testing.assert_close(everything(trainer)[name], value, rtol=1e-5, atol=1e-6, msg=name)


# --- the average -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.25, 1.0])
def test_moving_by_a_fraction_on_the_device_equals_lerp(weight):
    targets = [torch.randn(3, 4), torch.randn(5), torch.randn(())]
    sources = [torch.randn_like(one) for one in targets]
    wanted = [torch.lerp(target, source, weight) for target, source in zip(targets, sources, strict=True)]
    before = [source.clone() for source in sources]
    move_towards(targets, sources, torch.tensor(weight))
    torch.testing.assert_close(targets, wanted, rtol=1e-6, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(sources, before, strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_an_average_whose_weight_lies_on_the_device_equals_torchs(decay):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours = WeightAverage(network, decay)
    ours._device_weight = torch.zeros(())
    ours.decay = decay  # writes it there
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(7):
        network(torch.randn(5, 3))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update()
        theirs.update_parameters(network)
    for name, value in theirs.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.network.state_dict()[name], value, rtol=1e-6, atol=1e-6)
    assert ours.network[1].num_batches_tracked == network[1].num_batches_tracked


def test_a_decay_that_is_changed_reaches_the_device():
    average = WeightAverage(nn.Linear(1, 1), 0.5)
    average._device_weight = torch.zeros(())
    average.decay = 0.75
    assert average._device_weight.item() == 0.25


# --- with CUDA -------------------------------------------------------------------------------------------


RESIDENT = TensorData(torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(32) % CLASSES)


def resident(device="cuda", seed=3, **options):
    return TensorBatches(RESIDENT, batch_size=6, device=device, seed=seed, sample_range=None, **options)


# functions, because parts with averages are for one trainer each
CASES = {
    "plain": dict,
    "r1 every 4": lambda: {"regularizers": [R1(every=4)]},
    "wgan_gp": lambda: {"loss": Wasserstein(), "regularizers": [WassersteinGradientPenalty()]},
    "averages": lambda: {"regularizers": [Lecam(), PathLength(every=2)]},
    "schedule": lambda: {"loss": LossSchedule({0: "non_saturating", 7: "minimax"})},
    "two discriminator steps": lambda: {"discriminator_steps": 2},
    "warm-up": lambda: {"discriminator_warmup_steps": 3, "averaging_decay": 0.9},
    "averaging": lambda: {"averaging_decay": 0.9},
    "clipped gradients": lambda: {"max_gradient_norm": 0.1},
    "falling learning rates": lambda: {"learning_rate_decay_steps": 40},
    "conditional": lambda: {"classes": CLASSES},
    "shared generator forward": lambda: {"share_generator_forward": True},
    "concatenated passes": lambda: {"concatenate_discriminator_passes": True},
    "fused adam": lambda: {"optimizer": partial(adam, fused=True)},
    "bfloat16": lambda: {"precision": "bfloat16"},
    "tf32": lambda: {"precision": "tf32"},
}


def cuda_run(execution, steps, options, data=None):
    """Train on batches that the captured step draws for itself."""
    trainer = make(execution, device="cuda", **options)
    classes = options.get("classes")
    return trainer.fit(resident(with_labels=classes is not None) if data is None else data, steps=steps)


def cuda_randoms(trainer):
    return [one.get_state() for one in trainer.randomness.noises]


def assert_close(one, other, bound):
    wanted, found = everything(one), everything(other)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name].float().cpu(), value.float().cpu(), rtol=bound, atol=bound, msg=lambda text, n=name: n + text
        )


@needs_cuda
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "given"])
def test_cuda_graphs_give_the_trajectory_of_eager_steps(case, drawn):
    options = CASES[case]
    data = None if drawn else make_batches(options().get("classes"), device="cuda")
    eager, captured = cuda_run("eager", 20, options(), data), cuda_run("cuda_graph", 20, options(), data)
    assert captured.explain().mode == "cuda_graph"
    assert all(torch.equal(a, b) for a, b in zip(cuda_randoms(eager), cuda_randoms(captured), strict=True))
    # Adam counts its steps on the device: the bias corrections are rounded otherwise
    assert_close(eager, captured, 2e-2 if case == "bfloat16" else 1e-4)
    assert eager.metrics.keys() == captured.metrics.keys()


@needs_cuda
def test_cuda_graphs_give_a_closer_trajectory_where_the_optimizer_computes_alike():
    options = {"optimizer": partial(torch.optim.SGD, lr=1e-2, momentum=0.9), "regularizers": [R1(every=4)]}
    eager, captured = cuda_run("eager", 20, options), cuda_run("cuda_graph", 20, options)
    assert captured.explain().mode == "cuda_graph"
    assert_close(eager, captured, 1e-6)


@needs_cuda
def test_a_cuda_graph_draws_the_noise_that_an_eager_step_draws():
    seen = {"eager": [], "cuda_graph": []}
    for execution, noises in seen.items():
        trainer = make(execution, device="cuda")
        data = resident()
        for steps in range(1, 8):
            trainer.fit(data, steps=steps)
            # what comes next tells how much was drawn
            noises.append(trainer.draw_latents(2, trainer.noise).cpu())
    assert all(torch.equal(a, b) for a, b in zip(*seen.values(), strict=True))


@needs_cuda
def test_a_cuda_graph_is_one_for_each_kind_of_step():
    def programs(**options):
        return cuda_run("cuda_graph", 20, options).explain().programs

    assert programs() == 1
    assert programs(regularizers=[R1(every=4)]) == 2
    assert programs(loss=LossSchedule({0: "non_saturating", 7: "minimax"})) == 2
    assert programs(discriminator_warmup_steps=5) == 2
    assert programs(learning_rate_decay_steps=40) == 1
    assert programs(averaging_decay=0.9) == 1


@needs_cuda
def test_cuda_auto_captures_and_says_what_it_took():
    trainer = cuda_run("auto", 4, {})
    explanation = trainer.explain()
    assert (explanation.requested, explanation.mode, explanation.programs) == ("auto", "cuda_graph", 1)
    assert explanation.kernels > 10
    assert explanation.capture_seconds > 0
    assert explanation.pool_bytes >= 0
    undisturbed = cuda_run("auto", 8, {})
    assert_equal(everything(undisturbed), everything(trainer.fit(trainer.feed.batches, steps=8)))


@needs_cuda
@pytest.mark.parametrize("execution", ["eager", "cuda_graph"])
@pytest.mark.parametrize("case", ["plain", "averages", "falling learning rates", "clipped gradients"])
def test_a_cuda_step_after_the_first_ones_waits_for_nothing(execution, case):
    trainer, data = make(execution, device="cuda", **CASES[case]()), resident()
    trainer.fit(data, steps=6)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.fit(data, steps=12)
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Reads(NonSaturating):
    """A loss that reads a number on the host."""

    def generator_loss(self, fake_logits, real_logits=None):
        return super().generator_loss(fake_logits) * (1.0 if fake_logits.mean().item() > -100 else 0.5)


class Part:
    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()


class ReadsTheStep(Part):
    def __call__(self, context):
        return context.logits("real") * (context.step % 2)


class Replaces(nn.Module):
    """Puts a new tensor in the place of its buffer."""

    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()

    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.zeros((), device="cuda"))

    def forward(self, context):
        self.average = 0.9 * self.average + 0.1 * context.logits("real").detach().mean()
        return (context.logits("real") - self.average).square()


class Remembers(Part):
    """Keeps a tensor that no buffer is."""

    def __init__(self):
        self.average = torch.zeros((), device="cuda")

    def __call__(self, context):
        self.average = 0.9 * self.average + 0.1 * context.logits("real").detach().mean()
        return (context.logits("real") - self.average).square()


FALLBACKS = {
    "a loss that reads a number": (lambda: {"loss": Reads()}, "waits for the device, as .item"),
    "a part that reads the step": (lambda: {"regularizers": [ReadsTheStep()]}, "a part reads context.step"),
    "a buffer that is replaced": (lambda: {"regularizers": [Replaces()]}, "puts another tensor in the place"),
    "a tensor that is no buffer": (lambda: {"regularizers": [Remembers()]}, ""),
}


@needs_cuda
@pytest.mark.parametrize("case", FALLBACKS)
def test_cuda_steps_that_cannot_be_captured_fall_back_with_one_warning_and_leave_no_trace(case):
    options, says = FALLBACKS[case]
    eager = make("eager", device="cuda", networks=with_dropout, **options()).fit(resident(), steps=6)
    wanted = randoms(eager)
    trainer = make("cuda_graph", device="cuda", networks=with_dropout, **options())
    with pytest.warns(ExecutionWarning, match=f"'cuda_graph' falls back to 'eager': .*{says}") as caught:
        trainer.fit(resident(), steps=6)
    assert len(caught) == 1
    assert trainer.explain().mode == "eager"
    assert all(torch.equal(a, b) for a, b in zip(wanted, randoms(trainer), strict=True))
    # Adam stays capturable, and so rounds its bias corrections otherwise
    assert_close(eager, trainer, 1e-5)
    assert trainer.sample(3).isfinite().all()


@needs_cuda
def test_cuda_an_augmentation_is_captured_with_its_draws():
    options = {"regularizers": [Consistency()], "optimizer": partial(torch.optim.SGD, lr=1e-2)}
    eager, captured = cuda_run("eager", 10, options), cuda_run("cuda_graph", 10, options)
    assert captured.explain().mode == "cuda_graph"
    assert_close(eager, captured, 1e-5)


@needs_cuda
@pytest.mark.parametrize(
    ("execution", "case"),
    [
        ("cuda_graph", "plain"),
        ("cuda_graph", "averages"),
        ("cuda_graph", "falling learning rates"),
        ("cuda_graph", "averaging"),
        pytest.param("compile", "averages", marks=pytest.mark.slow),
        pytest.param("compile+cuda_graph", "averages", marks=pytest.mark.slow),
    ],
)
def test_cuda_a_loaded_state_continues_to_the_last_bit(execution, case):
    def trainer():
        return make(execution, device="cuda", networks=with_dropout, **CASES[case]())

    whole = trainer().fit(resident(), steps=12)
    wanted = randoms(whole)
    first, data = trainer(), resident()
    first.fit(data, steps=5)
    file = io.BytesIO()
    torch.save((first.state_dict(), data.state_dict()), file)
    file.seek(0)
    state, place = torch.load(file, weights_only=True)
    second, data = trainer(), resident(seed=9)
    second.load_state_dict(state)
    data.load_state_dict(place)
    second.fit(data, steps=12)
    assert second.explain().mode == execution
    assert_equal(everything(whole), everything(second))
    assert all(torch.equal(a, b) for a, b in zip(wanted, randoms(second), strict=True))


@needs_cuda
def test_cuda_a_state_that_is_loaded_into_the_same_trainer_is_what_replays_change():
    trainer, data = make("cuda_graph", device="cuda"), resident()
    trainer.fit(data, steps=5)
    file = io.BytesIO()
    torch.save((trainer.state_dict(), data.state_dict()), file)
    wanted = everything(trainer.fit(data, steps=10))
    file.seek(0)
    state, place = torch.load(file, weights_only=True)
    trainer.load_state_dict(state)
    data.load_state_dict(place)
    assert_equal(everything(trainer.fit(data, steps=10)), wanted)


@needs_cuda
@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "wgan_gp", "averages", "schedule"])
@pytest.mark.parametrize("execution", ["compile", "compile+cuda_graph"])
def test_cuda_compiled_steps_give_the_trajectory_of_eager_ones(execution, case):
    eager, compiled = (cuda_run(way, 10, CASES[case]() | {"dtype": torch.float64}) for way in ("eager", execution))
    assert compiled.explain().mode == execution
    assert compiled.explain().compile_seconds > 0
    # the learning rate and the bias corrections of a captured Adam are in float32
    assert_close(eager, compiled, 1e-5)


@needs_cuda
def test_cuda_replicas_are_captured_and_equal_those_of_eager_steps():
    options = {"networks": stacked(small_networks, 3), "regularizers": [R1()], "averaging_decay": 0.9}
    data = {execution: resident(replicas=3) for execution in ("eager", "cuda_graph")}
    eager, captured = (cuda_run(execution, 10, options, data[execution]) for execution in data)
    assert captured.explain().mode == "cuda_graph"
    assert captured.explain().programs == 1
    assert_close(eager, captured, 1e-4)


@needs_cuda
def test_cuda_another_data_set_is_not_mistaken_for_the_first():
    """Its memory, and its id, may be those of one that is gone."""

    def run(execution):
        trainer = make(execution, device="cuda", optimizer=partial(torch.optim.SGD, lr=1e-2))
        for turn in range(6):
            samples = torch.full((32, *SHAPE), float(turn))
            data = TensorBatches(samples, batch_size=6, device="cuda", seed=turn, sample_range=None)
            trainer.fit(data, steps=3 * (turn + 1))
            del data, samples
            gc.collect()
            torch.cuda.empty_cache()
        return trainer

    assert_close(run("eager"), run("cuda_graph"), 1e-5)


@needs_cuda
def test_cuda_toy_data_is_drawn_in_the_graph():
    runs = [ring(device="cuda", execution=execution) for execution in ("eager", "cuda_graph")]
    data = [ring.batches(device="cuda", seed=2) for _ in runs]
    for trainer, batches in zip(runs, data, strict=True):
        trainer.fit(batches, steps=12)
    assert runs[1].explain().mode == "cuda_graph"
    assert torch.equal(*[batches.generators[0].get_state() for batches in data])
    assert torch.equal(*[next(iter(batches)) for batches in data])


@needs_cuda
def test_cuda_other_sizes_of_batches_are_other_graphs_and_too_many_fall_back():
    data = [torch.randn(count, *SHAPE, device="cuda") for count in (6, 4, 6, 5)]
    assert make("cuda_graph", device="cuda").fit(data, steps=9).explain().programs == 3
    many = [torch.randn(2 + count, *SHAPE, device="cuda") for count in range(40)]
    trainer = make("cuda_graph", device="cuda")
    with pytest.warns(ExecutionWarning, match="32 different steps were captured already"):
        trainer.fit(many, steps=40)
    assert trainer.steps_done == 40


@needs_cuda
def test_cuda_a_rate_that_is_no_tensor_is_heeded():
    """SGD's learning rate is a part of the graph."""
    options = {"optimizer": partial(torch.optim.SGD, lr=1e-2)}
    runs = [make(execution, device="cuda", **options) for execution in ("eager", "cuda_graph")]
    for trainer in runs:
        data = resident()
        trainer.fit(data, steps=4)
        for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer):
            optimizer.param_groups[0]["lr"] = 1e-3
        trainer.fit(data, steps=8)
    assert_close(*runs, 1e-6)


@needs_cuda
@pytest.mark.parametrize("preset", [vanilla_mnist, dcgan_mnist, ring])
def test_cuda_presets_are_captured(preset):
    small = preset.replace(batch_size=16)
    trainer = small(device="cuda").fit(small.batches(device="cuda"), steps=8)
    assert trainer.explain().mode == "cuda_graph"
    assert all(value.isfinite().all() for value in trainer.metrics.values())


@needs_cuda
def test_cuda_tf32_changes_the_products_and_nothing_afterwards():
    before = torch.backends.cuda.matmul.fp32_precision
    exact, coarse = (cuda_run("cuda_graph", 4, {"precision": precision}) for precision in ("float32", "tf32"))
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert coarse.sample(3).isfinite().all()
    assert exact.sample(3).isfinite().all()
