"""How a step is run does not change what it computes."""

from __future__ import annotations

import dataclasses
import io
from functools import partial

import pytest
import torch
from torch import nn
from torch._inductor import config as inductor

from gankit import LossSchedule
from gankit.architectures import DCGANDiscriminator
from gankit.errors import BadValueError, DeviceError, ExecutionWarning
from gankit.losses import Minimax, NonSaturating, Wasserstein
from gankit.regularizers import (
    DRAGAN,
    R1,
    R1R2,
    Consistency,
    Lecam,
    PathLength,
    WassersteinGradientPenalty,
    WeightClipping,
)
from gankit.training import EXECUTIONS
from gankit.training.execution.tracing import TracedHalves
from tests.training import steps
from tests.training.steps import (
    CLASSES,
    SHAPE,
    assert_the_same_run,
    everything,
    small_networks,
    stacked,
    step_of,
    with_dropout,
)

make = partial(steps.make, dtype=torch.float64)
make_batches = partial(steps.make_batches, dtype=torch.float64)
two_replicas = stacked(small_networks, 2)


@pytest.fixture
def traced_only(monkeypatch):
    """Run the graph that Inductor would be given as it is: Inductor itself takes many seconds a half."""
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


@pytest.fixture(params=["graph", pytest.param("inductor", marks=pytest.mark.slow)])
def compiler(request):
    if request.param == "graph":
        request.getfixturevalue("traced_only")
    return request.param


# --- modes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("execution", "options", "error", "says"),
    [
        ("fast", {}, BadValueError, "execution must be one of auto, eager, compile, cuda_graph, .* got 'fast'"),
        ("cuda_graph", {}, DeviceError, "execution 'cuda_graph' needs a CUDA device, got 'cpu'"),
        ("compile+cuda_graph", {}, DeviceError, r"execution 'compile\+cuda_graph' needs a CUDA device, got 'cpu'"),
        ("eager", {"precision": "tf32"}, DeviceError, "precision 'tf32' needs a CUDA device, got 'cpu'"),
        (
            "compile",
            {"share_generator_forward": True},
            BadValueError,
            "share_generator_forward keeps the generator's graph .* got 'compile'",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_construction(execution, options, error, says):
    with pytest.raises(error, match=says):
        make(execution, **options)


@pytest.mark.parametrize(("execution", "mode"), [("auto", "eager"), ("eager", "eager"), ("compile", "compile")])
def test_a_trainer_says_how_its_steps_are_run_before_the_first_one(execution, mode):
    explanation = make(execution).explain()
    assert (explanation.requested, explanation.mode) == (execution, mode)
    assert (explanation.programs, explanation.kernels, explanation.pool_bytes) == (0, None, 0)
    assert (explanation.compile_seconds, explanation.capture_seconds) == (0.0, 0.0)


def test_auto_on_the_cpu_says_why_it_is_eager_and_a_wish_that_it_is_one():
    assert make("auto").explain().reason == "only a CUDA device captures steps"
    assert make("eager").explain().reason == "as asked for"
    assert EXECUTIONS[0] == "auto"


def test_an_explanation_is_one_line_a_fact():
    explanation = make("auto").explain()
    lines = str(explanation).splitlines()
    assert [line[:16].strip().replace(" ", "_") for line in lines] == [
        field.name for field in dataclasses.fields(explanation)
    ]
    assert lines[1].split() == ["mode", "eager"]


def test_auto_on_the_cpu_is_eager_to_the_last_bit():
    data = make_batches()
    assert_the_same_run(make("eager").fit(data, steps=4), make("auto").fit(data, steps=4))


def test_an_explanation_tells_of_the_compiled_halves(traced_only):
    trainer = make("compile")
    trainer.fit(make_batches(), steps=1)
    assert trainer.explain().programs == 0  # the first step makes the optimizers' states, operation by operation
    trainer.fit(trainer.feed.batches, steps=3)
    explanation = trainer.explain()
    assert (explanation.mode, explanation.programs) == ("compile", 2)
    assert 0 < explanation.compile_seconds < 60


# --- the same trajectory ---------------------------------------------------------------------------------


def with_spectral_norm(classes, dtype):
    """A discriminator that moves buffers in each forward pass."""
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
    """Convolutions, whose penalised gradients come out in another order of memory than the weights'."""
    G, _ = small_networks(classes, dtype, sample_shape=(1, 16, 16))
    return G, DCGANDiscriminator((1, 16, 16), hidden_dim=2, dtype=dtype)


@pytest.mark.parametrize("execution", ["eager", pytest.param("compile", marks=pytest.mark.slow)])
@pytest.mark.parametrize("networks", [convolutions, two_replicas])
def test_gradients_lie_in_memory_as_their_parameters_do(traced_only, execution, networks):
    """Fused optimizers take it for granted, and update the wrong weights otherwise."""

    def run(fused):
        torch.manual_seed(0)
        shape = (6, 1, 16, 16) if networks is convolutions else (2, 6, *SHAPE)
        data = [torch.randn(shape, dtype=torch.float64) for _ in range(4)]
        optimizer = partial(torch.optim.Adam, lr=1e-2, eps=1e-4, fused=fused)
        return make(execution, networks=networks, optimizer=optimizer, regularizers=[R1()]).fit(data, steps=4)

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


def test_losses_that_are_made_anew_at_each_step_are_never_mistaken_for_another():
    class Smoothing:
        def loss_at(self, step):
            return NonSaturating(label_smoothing=0.01 * step)

    trainer, signatures = make("compile", Smoothing()), []
    for step in range(20):  # the memory of a loss that is gone is used again soon
        trainer.state.steps_done = step
        signatures.append(step_of(trainer).signature())
    assert len(set(signatures)) == 20


class Counting(nn.Module, Minimax):
    """A loss with a buffer, which says how often it was asked."""

    def __init__(self):
        nn.Module.__init__(self)
        self.register_buffer("count", torch.zeros(()))

    def discriminator_loss(self, real_logits, fake_logits):
        self.count += 1
        return Minimax.discriminator_loss(Minimax(), real_logits, fake_logits) * (1 + self.count)


@pytest.mark.parametrize("scheduled", [False, True])
def test_the_buffers_of_a_loss_move_once_a_step(traced_only, scheduled):
    loss = Counting()
    make("compile", LossSchedule({0: loss}) if scheduled else loss).fit(make_batches(), steps=5)
    assert loss.count == 5


# --- what cannot be compiled -----------------------------------------------------------------------------


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
        self.register_buffer("average", torch.zeros((), dtype=torch.float64))

    def forward(self, context):
        self.average = 0.9 * self.average + 0.1 * context.logits("real").detach().mean()
        return (context.logits("real") - self.average).square()


class Remembers(Part):
    """Keeps a tensor that no buffer is."""

    def __init__(self):
        self.average = torch.zeros((), dtype=torch.float64)

    def __call__(self, context):
        self.average = 0.9 * self.average + 0.1 * context.logits("real").detach().mean()
        return (context.logits("real") - self.average).square()


FALLBACKS = {
    "a loss that reads a number": (lambda: {"loss": Reads(), "averaging_decay": 0.9}, "_local_scalar_dense"),
    "a part that reads the step": (
        lambda: {"regularizers": [ReadsTheStep()]},
        "a part reads context.step, which changes from step to step",
    ),
    "an augmentation": (
        lambda: {"regularizers": [Consistency()]},
        "an augmentation draws from a generator, which a compiled half cannot",
    ),
    "a buffer that is replaced": (
        lambda: {"regularizers": [Replaces()]},
        "Replaces puts another tensor in the place of its 'average' instead of changing it in place",
    ),
    "a tensor that is no buffer": (lambda: {"regularizers": [Remembers()]}, ""),
}


@pytest.mark.parametrize("case", FALLBACKS)
def test_what_cannot_be_compiled_falls_back_with_one_warning_and_leaves_no_trace(traced_only, case):
    options, says = FALLBACKS[case]
    data = make_batches()
    eager = make("eager", networks=with_dropout, **options()).fit(data, steps=5)
    random = torch.get_rng_state()
    trainer = make("compile", networks=with_dropout, **options())
    with pytest.warns(ExecutionWarning, match=f"execution 'compile' falls back to 'eager': .*{says}") as caught:
        trainer.fit(data, steps=5)
    assert [warning.category for warning in caught] == [ExecutionWarning]
    assert caught[0].filename == __file__
    explanation = trainer.explain()
    assert (explanation.requested, explanation.mode, explanation.programs) == ("compile", "eager", 0)
    assert says in explanation.reason
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(eager.noise.get_state(), trainer.noise.get_state())
    for name, value in everything(eager).items():
        assert torch.equal(everything(trainer)[name], value), name


def test_a_machine_that_cannot_compile_falls_back_with_one_warning(monkeypatch):
    def compile_nothing(graph, **_):
        def fail(*_):
            raise RuntimeError("no working C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", compile_nothing)
    data = make_batches()
    eager = make("eager").fit(data, steps=4)
    trainer = make("compile")
    with pytest.warns(ExecutionWarning, match="falls back to 'eager': .*no working C\\+\\+ compiler") as caught:
        trainer.fit(data, steps=4)
    assert len(caught) == 1
    assert_the_same_run(eager, trainer)


def test_a_later_loss_that_cannot_be_compiled_falls_back_when_it_takes_over(traced_only):
    data = make_batches()
    trainer = make("compile", LossSchedule({0: "non_saturating", 3: Reads()}))
    trainer.fit(data, steps=3)
    assert trainer.explain().mode == "compile"
    with pytest.warns(ExecutionWarning, match="_local_scalar_dense"):
        trainer.fit(data, steps=5)
    eager = make("eager", LossSchedule({0: "non_saturating", 3: Reads()})).fit(data, steps=5)
    assert_the_same_run(eager, trainer, rtol=1e-9, atol=1e-12)


def test_a_mistake_in_a_later_loss_is_told_as_it_is(traced_only):
    class Mistaken(NonSaturating):
        def generator_loss(self, fake_logits, real_logits=None):
            raise KeyError("no such thing")

    trainer = make("compile", LossSchedule({0: "non_saturating", 3: Mistaken()}))
    with pytest.warns(ExecutionWarning, match="KeyError"), pytest.raises(KeyError, match="no such thing"):
        trainer.fit(make_batches(), steps=5)


# --- state -----------------------------------------------------------------------------------------------


def test_a_loaded_state_continues_a_compiled_run_to_the_last_bit(compiler):
    def trainer():
        return make("compile", regularizers=[R1(), Lecam(), PathLength()], averaging_decay=0.9)

    data = make_batches()
    whole = trainer().fit(data, steps=8)
    first = trainer().fit(data, steps=4)  # a whole epoch, so that the list of batches begins again
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = trainer()
    second.load_state_dict(torch.load(file, weights_only=True))
    second.fit(data, steps=8)
    assert second.explain().mode == "compile"
    assert_the_same_run(whole, second)


def test_a_loaded_state_is_what_later_compiled_steps_change(traced_only):
    data = make_batches()
    trainer = make("compile").fit(data, steps=4)
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    trainer.fit(data, steps=8)
    after = everything(trainer)
    file.seek(0)
    trainer.load_state_dict(torch.load(file, weights_only=True))
    trainer.fit(data, steps=8)
    for name, value in everything(trainer).items():
        assert torch.equal(after[name], value), name
