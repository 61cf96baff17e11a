"""Captured steps compute what eager steps compute. All tests but the first need CUDA."""

from __future__ import annotations

import gc
import io
from functools import partial

import pytest
import torch
from torch import nn

from gankit import LossSchedule
from gankit.data import TensorBatches, TensorData
from gankit.errors import CannotCaptureError, ExecutionWarning
from gankit.losses import Wasserstein
from gankit.presets import dcgan_mnist, ring, vanilla_mnist
from gankit.regularizers import R1, Consistency, Lecam, PathLength, WassersteinGradientPenalty
from gankit.training.execution.graphs import GraphContext
from tests.judging import small_pair
from tests.training.execution.fallbacks import Reads, ReadsTheStep, Remembers, Replaces
from tests.training.steps import (
    CLASSES,
    SHAPE,
    adam,
    assert_equal,
    everything,
    make,
    make_batches,
    randoms,
    small_networks,
    stacked,
    with_dropout,
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def test_a_captured_step_refuses_its_number():
    context = GraphContext(discriminator=nn.Flatten(0), real=torch.zeros(2, 1), step=7)
    with pytest.raises(CannotCaptureError, match="a part reads context.step, which changes from step to step"):
        _ = context.step
    assert context.logits("real").shape == (2,)


RESIDENT = TensorData(torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(32) % CLASSES)


def resident(device="cuda", seed=3, **options):
    return TensorBatches(RESIDENT, batch_size=6, device=device, seed=seed, sample_range=None, **options)


def judging(kind):
    """Return a function that makes a generator and a discriminator of this kind of judgements."""
    return lambda classes, dtype: small_pair(kind, dtype=dtype)


# functions, because parts with averages are for one trainer each
CASES = {
    "plain": dict,
    "r1 every 4": lambda: {"regularizers": [R1(every=4)]},
    "wgan_gp": lambda: {"loss": Wasserstein(), "regularizers": [WassersteinGradientPenalty()]},
    "averages": lambda: {"regularizers": [Lecam(), PathLength(every=2)]},
    "a map": lambda: {"networks": judging("patches"), "regularizers": [R1(every=2), Lecam()]},
    "two heads": lambda: {"networks": judging("two heads"), "regularizers": [R1(every=2), Lecam()]},
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
    """Train on batches that the captured step draws itself."""
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
    # Adam counts its steps on the device: the bias corrections are rounded differently
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
            # the next draw shows how many numbers were drawn
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
def test_cuda_auto_captures_and_explains_what_it_took():
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


FALLBACKS = {
    "a loss that reads a number": (lambda: {"loss": Reads()}, "waits for the device, as .item"),
    "a part that reads the step": (lambda: {"regularizers": [ReadsTheStep()]}, "a part reads context.step"),
    "a buffer that is replaced": (
        lambda: {"regularizers": [Replaces(device="cuda")]},
        "puts another tensor in the place",
    ),
    "a tensor that is no buffer": (lambda: {"regularizers": [Remembers(device="cuda")]}, ""),
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
    # Adam stays capturable, and therefore rounds its bias corrections differently
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
    """A data set may get the memory and the id of one that was deleted."""

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


class SetsAWeight:
    """A callback that sets the weight of a penalty by the step."""

    every = 1

    def __init__(self, values):
        self.values = values

    def __call__(self, trainer):
        trainer.regularizers["lecam"].weight = self.values.get(trainer.steps_done, 1.0)


def with_weights(execution, values, steps):
    trainer = make(execution, device="cuda", regularizers=[Lecam()], callbacks=[SetsAWeight(values)])
    return trainer.fit(resident(), steps=steps)


@needs_cuda
def test_cuda_the_changed_weight_of_a_penalty_takes_effect():
    eager, captured = (with_weights(execution, {3: 0.5, 5: 0.5}, 10) for execution in ("eager", "cuda_graph"))
    assert (captured.explain().mode, captured.explain().programs) == ("cuda_graph", 2)
    assert_close(eager, captured, 1e-4)


@needs_cuda
def test_cuda_the_weight_of_a_penalty_that_changes_in_every_step_falls_back():
    values = {step: 1 + 0.1 * step for step in range(20)}
    with pytest.warns(ExecutionWarning, match="Lecam's 'weight' keeps changing"):
        captured = with_weights("cuda_graph", values, 8)
    assert_close(with_weights("eager", values, 8), captured, 1e-4)


@needs_cuda
def test_cuda_a_changed_rate_that_is_a_number_takes_effect():
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


@needs_cuda
@pytest.mark.parametrize("optimizer", [adam, partial(torch.optim.SGD, lr=1e-2, momentum=0.9)], ids=["adam", "sgd"])
def test_cuda_layers_that_are_frozen_and_thawed_between_replays_give_the_trajectory_of_eager_steps(optimizer):
    class Gradually:
        every = 1

        def __call__(self, trainer):
            frozen = trainer.steps_done < 4 or trainer.steps_done % 4 < 2
            trainer.generator.network[0].requires_grad_(not frozen)
            trainer.discriminator.requires_grad_(trainer.steps_done < 12)

    def trained(execution):
        trainer = make(execution, device="cuda", optimizer=optimizer, callbacks=[Gradually()], max_gradient_norm=1.0)
        trainer.generator.network[0].requires_grad_(False)
        return trainer.fit(resident(), steps=16)

    eager, captured = trained("eager"), trained("cuda_graph")
    assert captured.explain().mode == "cuda_graph"
    assert_close(eager, captured, 1e-4)


@needs_cuda
def test_cuda_an_optimizer_that_takes_the_place_of_another_one_is_what_trains():
    def trained(execution):
        trainer, data = make(execution, device="cuda", optimizer=partial(torch.optim.SGD, lr=1e-2)), resident()
        trainer.fit(data, steps=4)
        trainer.discriminator_optimizer = torch.optim.SGD(trainer.discriminator.parameters(), lr=1e-2, momentum=0.9)
        return trainer.fit(data, steps=8)

    eager, captured = trained("eager"), trained("cuda_graph")
    assert captured.explain().mode == "cuda_graph"
    assert_close(eager, captured, 1e-5)


@needs_cuda
def test_cuda_a_hook_makes_captured_steps_eager_with_a_warning():
    trainer, data, calls = make("cuda_graph", device="cuda"), resident(), []
    trainer.fit(data, steps=4)
    trainer.generator.network[0].register_forward_hook(lambda *_: calls.append(1))
    with pytest.warns(ExecutionWarning, match="'cuda_graph' falls back to 'eager': .* has a hook"):
        trainer.fit(data, steps=6)
    assert len(calls) == 4
