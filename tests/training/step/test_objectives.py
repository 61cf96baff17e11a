"""Which terms each half of a step has, and what the objectives hold."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gankit import LossSchedule, StepContext
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.losses import Hinge, Minimax, NonSaturating, RelativisticAverage, Wasserstein
from gankit.protocols import part_name
from gankit.regularizers import R1, Lecam, PathLength, WassersteinGradientPenalty, WeightClipping
from gankit.training.step.objectives import Objectives, reduce_terms
from tests.training.steps import CountingLoss


class Term:
    """A penalty of one per sample."""

    gradient_inputs = frozenset()

    def __init__(self, half="discriminator", every=1, gradient_inputs=()):
        self.half, self.every, self.gradient_inputs = half, every, frozenset(gradient_inputs)

    def __call__(self, context):
        return torch.ones_like(context.logits("fake"))


class Clip:
    """A constraint that records the networks that it was applied to."""

    def __init__(self, every=1):
        self.every, self.applied = every, []

    def apply(self, network):
        self.applied.append(network)


def context():
    return StepContext(
        discriminator=nn.Flatten(0), real=torch.tensor([[1.0], [2.0]]), fake=torch.tensor([[-1.0], [0.5]])
    )


# --- which parts belong to a step ------------------------------------------------------------------------


@given(every=st.integers(1, 20), step=st.integers(0, 100))
def test_a_part_is_due_in_every_so_many_steps_from_the_first_on(every, step):
    assert Objectives.is_due(Term(every=every), step) == (step in range(0, 101, every))


PARTS = st.one_of(
    st.builds(Term, st.sampled_from(["discriminator", "generator"]), st.integers(1, 9)),
    st.builds(Clip, st.integers(1, 9)),
)


@given(parts=st.lists(PARTS, max_size=5), warmup=st.integers(0, 20))
def test_first_uses_are_the_steps_in_which_something_is_used_for_the_first_time(parts, warmup):
    objectives = Objectives(Minimax(), {str(index): part for index, part in enumerate(parts)})
    used, first = set(), set()
    for step in range(40):
        trained = ["discriminator"] + ["generator"] * (step >= warmup)
        now = {f"optimizer of the {half}" for half in trained}
        now |= {id(part) for half in trained for _, part in objectives.due_penalties(half, step)}
        now |= {id(part) for part in parts if isinstance(part, Clip) and step % part.every == 0}
        if now - used:
            first.add(step)
        used |= now
    assert objectives.first_uses(warmup) == first


def test_each_half_has_its_own_penalties_when_they_are_due():
    objectives = Objectives(Minimax(), {"a": Term(), "b": Term("generator", 2), "c": Term(every=3), "d": Clip()})
    due = {}
    for half in ("discriminator", "generator"):
        due[half] = [[name for name, _ in objectives.due_penalties(half, step)] for step in range(4)]
    assert due == {"discriminator": [["a", "c"], ["a"], ["a"], ["a", "c"]], "generator": [["b"], [], ["b"], []]}


def test_what_is_differentiated_is_what_the_due_penalties_ask_for():
    parts = [R1(every=2), WassersteinGradientPenalty(), PathLength(every=3)]
    objectives = Objectives(Minimax(), parts)
    own = [part.gradient_inputs for part in parts]
    assert objectives.gradient_inputs("discriminator", 2) == own[0] | own[1]
    assert objectives.gradient_inputs("discriminator", 1) == own[1]
    assert objectives.gradient_inputs("generator", 3) == own[2] == {"latent"}
    assert objectives.gradient_inputs("generator", 2) == set()


def test_two_steps_of_the_same_operations_have_one_signature():
    objectives = Objectives(LossSchedule({0: "hinge", 4: "minimax", 8: "hinge"}), [R1(every=2)])
    signatures = [objectives.signature(step) for step in range(8)]
    assert signatures[0] == signatures[2] != signatures[1] == signatures[3]
    assert signatures[4] == signatures[6] != signatures[0]


# --- the terms -------------------------------------------------------------------------------------------


def test_the_terms_are_those_of_the_loss_and_of_the_due_penalties_times_every():
    objectives = Objectives(NonSaturating(), {"strong": Term(every=4), "weak": Term("generator")})
    one, loss = context(), NonSaturating()
    terms = objectives.terms("discriminator", one, 4)
    assert list(terms) == ["discriminator_loss", "penalty/strong"]
    assert torch.equal(terms["discriminator_loss"], loss.discriminator_loss(one.logits("real"), one.logits("fake")))
    assert terms["penalty/strong"].tolist() == [4.0, 4.0]
    assert list(objectives.terms("discriminator", one, 5)) == ["discriminator_loss"]
    terms = objectives.terms("generator", one, 5)
    assert list(terms) == ["generator_loss", "penalty/weak"]
    assert torch.equal(terms["generator_loss"], loss.generator_loss(one.logits("fake")))


@pytest.mark.parametrize("loss", [NonSaturating(), RelativisticAverage()], ids=["alone", "in pairs"])
def test_d_of_real_is_computed_for_g_only_if_its_loss_needs_it(loss):
    calls = []

    class Recording(nn.Flatten):
        def forward(self, x):
            calls.append(x)
            return super().forward(x)

    one = StepContext(discriminator=Recording(0), real=torch.ones(2, 1), fake=torch.zeros(2, 1))
    Objectives(loss).terms("generator", one, 0)
    assert len(calls) == 1 + loss.needs_real_logits


def test_scores_are_probabilities_and_accuracies_only_with_log_odds():
    one = context()
    scores = Objectives(NonSaturating()).scores(one, 0)
    assert scores["real_score"] == torch.tensor([1.0, 2.0]).sigmoid().mean()
    assert scores["fake_score"] == torch.tensor([-1.0, 0.5]).sigmoid().mean()
    assert (scores["real_accuracy"], scores["fake_accuracy"]) == (1.0, 0.5)
    assert Objectives(Wasserstein()).scores(one, 0) == {"real_score": 1.5, "fake_score": -0.25}


def test_constraints_are_applied_when_they_are_due():
    often, rarely, network = Clip(), Clip(3), nn.Identity()
    objectives = Objectives(Minimax(), {"often": often, "rarely": rarely})
    for step in range(4):
        objectives.constrain(network, step)
    assert often.applied == [network] * 4
    assert rarely.applied == [network] * 2


def test_terms_are_averaged_over_the_batch_and_added_over_replicas():
    terms = {"a": torch.tensor([[1.0, 3.0], [5.0, 7.0]]), "b": torch.tensor([[1.0, 1.0], [2.0, 2.0]])}
    terms["a"].requires_grad_()
    total, means = reduce_terms(terms, StepContext(discriminator=nn.Flatten(1), fake=torch.zeros(2, 2, 1), replicas=2))
    assert total.item() == 2 + 6 + 1 + 2
    assert {name: mean.tolist() for name, mean in means.items()} == {"a": [2.0, 6.0], "b": [1.0, 2.0]}
    assert total.requires_grad
    assert not means["a"].requires_grad


@pytest.mark.parametrize("term", [torch.zeros(()), torch.zeros(3), torch.zeros(2, 1)], ids=["mean", "count", "column"])
def test_a_term_that_is_not_one_value_per_sample_is_refused(term):
    with pytest.raises(ShapeError, match=r"penalty/a must have one value per sample .*, \(2,\), got") as caught:
        reduce_terms({"penalty/a": term}, StepContext(discriminator=nn.Flatten(0), fake=torch.zeros(2, 1)))
    assert "\n" not in str(caught.value)


# --- what they hold --------------------------------------------------------------------------------------


def test_the_parts_of_a_schedule_are_listed_once_each():
    first, second, part = Hinge(), Minimax(), R1()

    class Schedule:
        losses = (first, second)

        def loss_at(self, step):
            return (first, second, first)[step]

    schedule = Schedule()
    objectives = Objectives(schedule, {"a": part, "b": part})
    for step in range(3):
        listed = objectives.parts(step)
        assert len(listed) == 4
        assert {id(one) for one in listed} == {id(one) for one in (schedule, first, second, part)}


def test_a_loss_that_a_schedule_makes_for_one_step_is_among_the_parts_of_that_step():
    class Schedule:
        def loss_at(self, step):
            return losses[step]

    losses = [Hinge(), Minimax()]
    objectives = Objectives(Schedule())
    assert [losses[step] in objectives.parts(step) for step in (0, 1)] == [True, True]
    assert losses[1] not in objectives.parts(0)


def test_a_schedule_builds_losses_for_each_training():
    schedule = LossSchedule({0: "hinge", 5: "minimax"})
    one, other = Objectives(schedule), Objectives(schedule)
    for step in (0, 5):
        assert type(one.loss_at(step)) is type(other.loss_at(step))
        assert one.loss_at(step) is not other.loss_at(step)


def test_its_modules_are_the_parts_with_tensors():
    loss, lecam = CountingLoss(), Lecam()
    objectives = Objectives(loss, [lecam, R1(), WeightClipping(0.1)])
    assert [id(one) for one in objectives.modules(0)] == [id(loss), id(lecam)]


def test_its_state_is_that_of_the_parts_that_have_one():
    first, second = (Objectives(CountingLoss(), [Lecam(), R1()]) for _ in range(2))
    first.loss_at(0).count.fill_(3.0)
    first.regularizers["lecam"].load_state_dict({name: value + 1 for name, value in Lecam().state_dict().items()})
    assert first.state_dict().keys() == {"loss", "penalty/lecam"}
    second.load_state_dict(first.state_dict())
    assert second.loss_at(0).count == 3.0
    for name, value in first.regularizers["lecam"].state_dict().items():
        assert torch.equal(second.regularizers["lecam"].state_dict()[name], value)


def test_a_penalty_that_is_called_loss_does_not_hide_the_state_of_the_loss():
    first, second = (Objectives(CountingLoss(), {"loss": Lecam()}) for _ in range(2))
    first.loss_at(0).count.fill_(3.0)
    second.load_state_dict(first.state_dict())
    assert second.loss_at(0).count == 3.0


def test_a_state_of_other_parts_is_refused_before_any_part_is_loaded():
    objectives, other = Objectives(CountingLoss(), [Lecam()]), Objectives(CountingLoss())
    other.loss_at(0).count.fill_(3.0)
    with pytest.raises(
        BadArgumentsError, match=r"state has the parts \['loss'\], this trainer has \['loss', 'penalty/lecam'\]"
    ):
        objectives.load_state_dict(other.state_dict())
    assert objectives.loss_at(0).count == 0.0


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["both", "Generator", None, 1])
def test_a_regularizer_of_no_half_is_refused_in_one_sentence(half):
    with pytest.raises(BadArgumentsError) as caught:
        Objectives(Minimax(), {"mine": Term(half)})
    assert str(caught.value) == f"regularizer 'mine' must have the half 'discriminator' or 'generator', got {half!r}"


@pytest.mark.parametrize("part", [object(), nn.Identity(), "r1"])
def test_what_is_no_regularizer_is_refused_in_one_sentence(part):
    with pytest.raises(
        BadArgumentsError, match="regularizer 'mine' must have half, every, gradient_inputs and be call"
    ):
        Objectives(Minimax(), {"mine": part})


def test_two_regularizers_of_one_class_need_names():
    with pytest.raises(BadValueError, match="two regularizers are called 'r1'; name them by a mapping"):
        Objectives(Minimax(), [R1(), R1(every=4)])
    assert list(Objectives(Minimax(), {"often": R1(), "rarely": R1(every=4)}).regularizers) == ["often", "rarely"]


@pytest.mark.parametrize("loss", ["minimax", None, nn.BCELoss()])
def test_what_is_no_loss_is_refused_in_one_sentence(loss):
    with pytest.raises(BadArgumentsError, match="loss must be an object with discriminator_loss, generator_loss and"):
        Objectives(loss)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (R1(), "r1"),
        (WeightClipping(0.1), "weight_clipping"),
        (WassersteinGradientPenalty(), "wasserstein_gradient_penalty"),
    ],
)
def test_a_part_without_a_name_is_called_after_its_class(part, name):
    assert part_name(part) == name
