"""Networks and optimizers that do not fit are refused before anything is trained."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from gankit import AdversarialTrainer
from gankit.answers import Answer
from gankit.errors import BadArgumentsError, BadValueError, DeviceError, ShapeError
from gankit.latents import Normal
from gankit.losses import NonSaturating
from tests.training.observing import same, weights
from tests.training.steps import SHAPE


def test_networks_that_do_not_fit_the_latent_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"the generator Sequential does not fit inputs of shape \(2, 3\)"):
        make_trainer(nn.Sequential(nn.Linear(4, 16), nn.Unflatten(1, SHAPE)))


def test_networks_that_do_not_fit_each_other_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"the discriminator Sequential does not fit inputs of shape \(2, 1, 4, 4\)"):
        make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(20, 1), nn.Flatten(0)))


def test_logits_that_are_not_n_are_refused_at_construction(make_trainer):
    with pytest.raises(ShapeError, match=r"logits of shape \(2,\), .* for 2 samples, got \(2, 3\); return Answer"):
        make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))


def test_without_a_latent_shape_they_are_refused_at_the_first_batch(make_trainer, batches):
    def latent(count, *, generator, device):
        return torch.randn(count, 3, generator=generator, device=device)

    trainer = make_trainer(discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), latent=latent)
    with pytest.raises(ShapeError, match=r"logits of shape \(6,\), .* for 6 samples, got \(6, 3\)"):
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


# --- answers ---------------------------------------------------------------------------------------------


class Answering(nn.Module):
    """A discriminator that returns something made of its logits."""

    def __init__(self, make):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))
        self.make = make

    def forward(self, x):
        return self.make(self.network(x))


class Output:
    def __init__(self, logits):
        self.logits = logits


ANSWERS = {
    "tuple": (
        lambda logits: (logits, logits),
        BadArgumentsError,
        r"or an Answer\(heads=\(tensor, ...\)\) of several, got tuple",
    ),
    "list": (lambda logits: [logits], BadArgumentsError, "got list"),
    "dictionary": (lambda logits: {"logits": logits}, BadArgumentsError, "got dict"),
    "object": (Output, BadArgumentsError, "got Output"),
    "nothing": (lambda logits: None, BadArgumentsError, "got NoneType"),
    "integers": (lambda logits: (logits > 0).long(), BadArgumentsError, "got torch.int64"),
    "an answer without heads": (lambda logits: Answer(()), BadArgumentsError, "got tuple without any"),
    "several numbers": (lambda logits: logits[:, None].expand(-1, 9), ShapeError, "if each number is a judgement"),
    "channels": (lambda logits: logits[:, None, None].expand(-1, 3, 9), ShapeError, "if each number is a judgement"),
    "mean": (lambda logits: logits.mean(), ShapeError, r"samples, got \(\); return one number per sample"),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("first_seen", ["at construction", "in a step"])
def test_what_a_discriminator_may_not_return_is_refused(make_trainer, batches, answer, first_seen):
    make, error, says = ANSWERS[answer]
    options = {}
    if first_seen == "in a step":
        options["latent"] = lambda count, *, generator, device: torch.randn(count, 3, generator=generator)
    with pytest.raises(error, match=says):
        make_trainer(discriminator=Answering(make), **options).step(batches[0])


@pytest.mark.parametrize("first_seen", ["at construction", "in a step"])
def test_what_a_generator_may_not_return_is_refused(make_trainer, batches, first_seen):
    class Pair(nn.Linear):
        def forward(self, z):
            samples = super().forward(z).unflatten(1, SHAPE)
            return samples, z

    options = {}
    if first_seen == "in a step":
        options["latent"] = lambda count, *, generator, device: torch.randn(count, 3, generator=generator)
    with pytest.raises(BadArgumentsError, match="the generator must return one tensor of floating-point numbers"):
        make_trainer(Pair(3, 16), **options).step(batches[0])


# --- latents, callbacks and other parts ------------------------------------------------------------------


class Every:
    def __init__(self, every):
        self.every = every

    def __call__(self, trainer):
        pass


NONE = {
    "number as latent": ({"latent": 4}, "latent must be an object that draws by .* got int"),
    "class as latent": ({"latent": Normal}, "got the class Normal"),
    "tensor as latent": ({"latent": torch.zeros(3)}, "got Tensor"),
    "latent without a generator": ({"latent": lambda count: torch.zeros(count, 3)}, "got function"),
    "no callbacks": ({"callbacks": None}, "callbacks must be a list of callbacks, got None"),
    "one callback": ({"callbacks": Every(1)}, "callbacks must be a list of callbacks, got <"),
    "function as callback": ({"callbacks": [print]}, "have an attribute every, .*, got <built-in function print>"),
    "class as callback": ({"callbacks": [Every]}, "a callback must be callable"),
    "callback that cannot be called": ({"callbacks": [nn.Parameter]}, "a callback must be callable"),
    "every 0": ({"callbacks": [Every(0)]}, "every of the callback Every must be above 0, got 0"),
    "every 1.5": ({"callbacks": [Every(1.5)]}, "every of the callback Every must be an integer, got 1.5"),
    "no regularizers": ({"regularizers": None}, "regularizers must be a sequence or a mapping by name, got None"),
    "partial as network": (
        {"discriminator": functools.partial(nn.Flatten(0)), "discriminator_optimizer": None},
        "discriminator must be a torch.nn.Module, got partial",
    ),
    "class as network": (
        {"discriminator": nn.Flatten, "discriminator_optimizer": None},
        "discriminator must be a torch.nn.Module, got the class Flatten",
    ),
}


@pytest.mark.parametrize("case", NONE)
def test_something_that_is_not_the_part_is_refused_at_construction(case):
    given, says = NONE[case]
    G, D = conditional(nn.Sequential)
    parts = {
        "generator": G,
        "discriminator": D,
        "loss": NonSaturating(),
        "latent": Normal(3),
        "generator_optimizer": torch.optim.SGD(G.parameters()),
        "discriminator_optimizer": torch.optim.SGD(D.parameters()),
    }
    with pytest.raises((BadArgumentsError, BadValueError), match=says) as caught:
        AdversarialTrainer(**parts | given)
    assert "\n" not in str(caught.value)


def test_a_callback_that_is_added_later_is_checked_before_the_first_step(make_trainer, batches):
    trainer = make_trainer()
    trainer.callbacks.append(print)
    with pytest.raises(BadArgumentsError, match="have an attribute every"):
        trainer.fit(batches, steps=1)
    assert trainer.steps_done == 0


@pytest.mark.parametrize(
    ("draw", "got"), [(lambda count: torch.zeros(count + 1, 3), r"\(7, 3\)"), (lambda count: "noise", "str")]
)
def test_latents_of_another_number_are_refused(make_trainer, batches, draw, got):
    def latent(count, *, generator, device):
        return draw(count)

    with pytest.raises(
        ShapeError, match=rf"latent must draw a tensor \(6, \*latent_shape\) for a count of 6, got {got}"
    ):
        make_trainer(latent=latent).step(batches[0])


# --- conditions ------------------------------------------------------------------------------------------


class Conditional(nn.Module):
    """A network of one's own with an optional argument that it needs."""

    def __init__(self, network):
        super().__init__()
        self.network, self.embedding = network, nn.Embedding(3, 3)

    def forward(self, x, y=None):
        return self.network(x) + self.embedding(y.long()).mean() * 0


class Strict(Conditional):
    def forward(self, x, y):
        return super().forward(x, y)


def conditional(kind):
    return (
        kind(nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, SHAPE))),
        kind(nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))),
    )


@pytest.mark.parametrize("kind", [Conditional, Strict])
def test_a_conditional_network_of_ones_own_waits_for_the_first_batch(make_trainer, batches, kind):
    trainer = make_trainer(*conditional(kind))
    labels = torch.zeros(6)
    with pytest.raises(BadArgumentsError, match=f"the generator {kind.__name__} needs a condition, which the batches"):
        trainer.step(batches[0])
    with pytest.raises(ShapeError, match=r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"):
        trainer.step((torch.zeros(6, 1, 5, 5), labels))
    assert trainer.fit([(batches[0], labels)], steps=2).steps_done == 2
    assert trainer.sample(6, labels).shape == (6, *SHAPE)
    with pytest.raises(BadArgumentsError, match="sample needs a condition for the generator"):
        trainer.sample(6)


def test_an_optimizer_that_evaluates_the_loss_itself_is_refused(make_trainer):
    G = nn.Linear(3, 2)
    message = "generator_optimizer must make a step from the gradients alone, as Adam does, got LBFGS"
    with pytest.raises(BadArgumentsError, match=message):
        make_trainer(generator=G, generator_optimizer=torch.optim.LBFGS(G.parameters()))


def test_an_optimizer_of_another_network_is_refused(make_trainer):
    with pytest.raises(BadArgumentsError, match="must hold the generator's parameters, got 2 of 2 that are not"):
        make_trainer(generator_optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))


def test_networks_on_two_devices_are_refused(make_trainer):
    with pytest.raises(DeviceError, match="one device, got cpu and meta"):
        make_trainer(
            discriminator=nn.Sequential(nn.Flatten(), nn.Linear(16, 1, device="meta"), nn.Flatten(0)),
        )
