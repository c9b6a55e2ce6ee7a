"""Students that are told the scale of their guidance: classes that are Gaussians with one spread.

There guidance moves the mean alone, ``m_w = m_0 + w (m_c - m_0)``, so the guided flow is known.
"""

import pytest
import torch
from torch import nn

from flowgen.core import InputError, Pair
from flowgen.distill import (
    AlongVelocity,
    Critic,
    Eulerian,
    Exact,
    Frozen,
    Lagrangian,
    Middle,
    OfTeacher,
    Semigroup,
    TeacherHeun,
    ToEdge,
    TwoTimes,
)
from flowgen.models import (
    MLP,
    Autoguidance,
    CFGZero,
    ClassifierFree,
    FlowMapField,
    LabelConditioner,
    PredictionField,
    ScaleConditioner,
    ToldScale,
)
from flowgen.paths import AffinePath, Linear, Velocity
from oracles import GaussianOracle

PATH = AffinePath(Linear())
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]], dtype=torch.float64)
MEANS = torch.tensor([[2.0, -1.0], [-0.5, 1.5], [0.4, 0.3]], dtype=torch.float64)
CENTRED = GaussianOracle(torch.zeros(2), COV)
LABELS = LabelConditioner(2, dropout=0.1)


class Classes(nn.Module):
    """The velocity of two classes; the last row of the means is that of no class."""

    def __init__(self, means=MEANS):
        super().__init__()
        self.register_buffer("means", means)

    def forward(self, x, t, cond=None):
        mean = self.means[cond["label"]]
        return CENTRED(x - t[:, None] * mean, t) + mean


class GuidedMap(nn.Module):
    """The flow map of guidance for each row's scale, its means ``nothing + w apart``."""

    edges = None

    def __init__(self, nothing, apart, edges=None):
        super().__init__()
        self.nothing, self.apart = nn.Parameter(nothing.clone()), nn.Parameter(apart.clone())
        self.edges = edges

    def mean_velocity(self, x, s, t, cond=None):
        if self.edges is not None:
            t = torch.ones_like(s)
        w = cond["guidance"].to(x)[:, None]
        mean = self.nothing + w * self.apart[cond["label"]]
        apart = (t != s)[:, None]
        end_time = torch.where(apart[:, 0], t, s + 1e-3)
        end = CENTRED.flow(x - s[:, None] * mean, s, end_time) + end_time[:, None] * mean
        jump = (end - x) / (end_time - s)[:, None]
        velocity = CENTRED(x - s[:, None] * mean, s) + mean
        return torch.where(apart, jump, velocity)

    def forward(self, x, t, cond=None):
        return self.mean_velocity(x, t, t, cond)


def told(rule=None, field=None):
    field = Classes() if field is None else field
    rule = ClassifierFree() if rule is None else rule
    make = type(rule)
    rest = {name: value for name, value in vars(rule).items() if name != "scale"}
    return ToldScale(*(make(scale=scale, **rest)(field, LABELS.null) for scale in (1.0, 0.0)))


def batch(n, generator, scale=None):
    label = torch.randint(0, 2, (n,), generator=generator)
    x_0, noise = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    x_1 = MEANS[label] + noise @ torch.linalg.cholesky(COV).mT
    w = 1 + 3 * torch.rand(n, generator=generator) if scale is None else torch.full((n,), scale)
    return Pair(x_0, x_1, {"label": label, "guidance": w})


def exact(edges=None):
    return GuidedMap(MEANS[2], MEANS[:2] - MEANS[2], edges)


WEAK = Classes(MEANS + 0.3 * MEANS.flip(0))


@pytest.mark.parametrize(
    "rule",
    [
        ClassifierFree(),
        ClassifierFree(interval=(0.2, 0.7)),
        CFGZero(zero_until=0.3),
        Autoguidance(WEAK),
    ],
    ids=["cfg", "interval", "cfg zero", "auto"],
)
def test_every_row_has_its_own_scale(rule, generator):
    pair = batch(48, generator)
    assert pair.cond is not None
    t = torch.linspace(0, 0.99, 48, dtype=torch.float64)
    given = told(rule)
    rest = {name: value for name, value in vars(rule).items() if name != "scale"}
    for scale in (0.0, 0.5, 1.0, 3.7):
        fixed = type(rule)(scale=scale, **rest)(Classes(), LABELS.null)
        cond = {**pair.cond, "guidance": torch.full((48,), scale)}
        expected = fixed(pair.x_0, t, {"label": pair.cond["label"]})
        # Scales are float32, as they are drawn.
        torch.testing.assert_close(given(pair.x_0, t, cond), expected, rtol=1e-6, atol=1e-6)
    whole = given(pair.x_0, t, pair.cond)
    alone = [
        given(pair.x_0[i : i + 1], t[i : i + 1], {k: v[i : i + 1] for k, v in pair.cond.items()})
        for i in range(3)
    ]
    torch.testing.assert_close(whole[:3], torch.cat(alone))


OBJECTIVES = {
    "eulerian": lambda teacher: Eulerian(PATH, TwoTimes(diagonal=0.25), OfTeacher(teacher)),
    "to the data": lambda teacher: Eulerian(PATH, ToEdge(), OfTeacher(teacher)),
    "lagrangian": lambda teacher: Lagrangian(
        PATH, TwoTimes(diagonal=0.25), OfTeacher(teacher), OfTeacher(teacher)
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_best_student_is_the_guided_flow_at_every_scale(name, generator):
    pair = batch(256, generator)
    edges = (0.0, 1.0) if name == "to the data" else None
    objective = OBJECTIVES[name](told())
    assert float(objective(exact(edges), pair, generator=generator).value.detach().max()) < 1e-12
    deaf = GuidedMap(MEANS[2] + 2 * (MEANS[:1] - MEANS[2])[0], torch.zeros(2, 2).double(), edges)
    assert float(objective(deaf, pair, generator=generator).value.detach().mean()) > 1e-2


def test_students_learn_what_the_scale_does(generator):
    """From the unguided flow, where a student begins, to the guided ones of all scales."""
    student = GuidedMap(MEANS[2], torch.zeros(2, 2).double())
    student.nothing.requires_grad_(False)
    objective = Eulerian(PATH, TwoTimes(diagonal=0.5), OfTeacher(told()))
    optimizer = torch.optim.Adam([student.apart], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        optimizer.zero_grad()
        objective(student, batch(64, generator), generator=generator).total().backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(student.apart.data, MEANS[:2] - MEANS[2], rtol=0, atol=0.02)


STEPS = {
    "euler": lambda teacher: AlongVelocity(OfTeacher(teacher)),
    "heun": TeacherHeun,
}


@pytest.mark.parametrize("step", ["eulerian", *STEPS])
def test_one_scale_for_all_rows_is_the_plain_method(step, generator):
    """The student's own map is the same; only who knows the scale differs."""
    pair = batch(64, generator, scale=2.5)
    assert pair.cond is not None
    guided = ClassifierFree(2.5)(Classes(), LABELS.null)

    class Plain(nn.Module):
        """A teacher that is not told."""

        def forward(self, x, t, cond=None):
            return guided(x, t, {"label": cond["label"]})

    losses = []
    for teacher in (told(), Plain()):
        if step == "eulerian":
            objective = Eulerian(PATH, TwoTimes(), OfTeacher(teacher))
        else:
            triples = Middle(TwoTimes(diagonal=0.0))
            objective = Semigroup(PATH, triples, STEPS[step](teacher))
        student = GuidedMap(MEANS[2] + 0.2, MEANS[:2])
        draws = torch.Generator().manual_seed(2)
        loss = objective(student, pair, generator=draws)
        loss.total().backward()
        losses.append((loss.value.detach(), student.apart.grad))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=1e-8)


@pytest.fixture
def field():
    torch.manual_seed(0)
    network = MLP((2,), 2, width=16, depth=2, interval=True, guided=True).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return FlowMapField(network, PATH, Velocity())


def test_derivatives_along_the_flow_know_the_scale(field, generator):
    """Forward mode against a central difference; the scale is no variable of it."""
    pair = batch(16, generator)
    s, t = torch.full((16,), 0.3).double(), torch.full((16,), 0.8).double()
    w = torch.randn(16, 2, generator=generator, dtype=torch.float64)

    def function(x, s):
        return field.mean_velocity(x, s, t, pair.cond)

    _, found = Exact()(function, pair.x_0, s, w)
    # Times enter with up to 100 radians, so the quotient's own error of h^2 is 3e-7 at h = 1e-5.
    h = 1e-6
    ahead, behind = (function(pair.x_0 + h * k * w, s + h * k) for k in (1, -1))
    torch.testing.assert_close(found, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


def test_gradients_of_the_embedding_of_the_scale(field, generator):
    """The loss of a told teacher against a difference quotient in each of a few weights."""
    pair = batch(32, generator)
    t = torch.rand(32, generator=generator, dtype=torch.float64)
    x_t, target = PATH.sample(pair, t).x_t, told()(PATH.sample(pair, t).x_t, t, pair.cond)

    def loss():
        return (field.mean_velocity(x_t, t, t, pair.cond) - target).square().mean()

    embedding = field.network.condition.embeddings["guidance"]
    for weight in (embedding.out.weight, embedding.project.weight):
        (gradient,) = torch.autograd.grad(loss(), weight)
        place = tuple(divmod(int(gradient.abs().argmax()), gradient.shape[1]))
        sizes = []
        with torch.no_grad():
            for step in (1e-6, -2e-6):
                weight[place] += step
                sizes.append(float(loss()))
            weight[place] += 1e-6
        assert (sizes[0] - sizes[1]) / 2e-6 == pytest.approx(float(gradient[place]), rel=1e-5)


def test_scale_changes_nothing_at_the_start(generator):
    network = MLP((2,), 2, width=16, depth=2, guided=True)
    nn.init.normal_(network.out.weight)
    nn.init.normal_(network.modulation.weight)
    pair = batch(8, generator)
    assert pair.cond is not None
    x, t = pair.x_0.float(), torch.full((8,), 0.4)
    answers = [
        network(x, t, {**pair.cond, "guidance": torch.full((8,), scale)}) for scale in (1.0, 4.0)
    ]
    assert torch.equal(*answers)
    answers[0].square().mean().backward()
    assert float(network.condition.embeddings["guidance"].out.weight.grad.abs().max()) > 0


def test_a_critic_of_a_told_teacher_is_told_as_well(generator):
    network = MLP((2,), 2, width=16, depth=2)
    nn.init.normal_(network.out.weight)
    nn.init.normal_(network.modulation.weight)
    teacher = PredictionField(network, PATH, Velocity())
    critic = Critic(Frozen(told(field=teacher)))
    pair = batch(8, generator)
    assert pair.cond is not None
    x, t = pair.x_0.float(), torch.full((8,), 0.4)
    found = critic(x, t, pair.cond)[0]
    torch.testing.assert_close(found, teacher(x, t, {"label": pair.cond["label"]}))
    nn.init.normal_(critic.field.network.condition.embeddings["guidance"].out.weight)
    assert not torch.allclose(critic(x, t, pair.cond)[0], found, atol=1e-3)
    assert all("guidance" not in name for name, _ in network.named_parameters())


def test_conditions_have_a_scale_and_training_draws_it(generator):
    conditioner = ScaleConditioner(LabelConditioner(2, dropout=0.0), 0.5, 3.0)
    taken = conditioner.take({"x_1": torch.zeros(4000, 2), "label": torch.arange(4000) % 2})
    assert torch.equal(taken["guidance"], torch.ones(4000))
    drawn = conditioner.drop(taken, generator=generator)
    assert torch.equal(drawn["label"], taken["label"])
    scale = drawn["guidance"]
    assert 0.5 <= float(scale.min()) < 0.51
    assert 2.99 < float(scale.max()) <= 3.0
    assert float(scale.mean()) == pytest.approx(1.75, abs=0.06)
    chosen = conditioner.at(2.0)
    assert chosen.rows({"label": [1]}, range(3))["guidance"].tolist() == [2.0] * 3
    assert chosen.null(2)["label"].tolist() == [2, 2]
    assert conditioner.scale == 1.0
    alone = ScaleConditioner(None, 1.0, 2.0)
    assert alone.kinds == ()
    assert list(alone.rows({}, range(2))) == ["guidance"]


def test_bad_scales_are_told():
    conditioner = ScaleConditioner(None, 1.0, 4.0)
    with pytest.raises(InputError, match="guidance.scale=6 is outside .*: 1 to 4"):
        conditioner.at(6.0)
    for scales in ((2.0, 4.0), (1.0, 1.0), (-1.0, 2.0), (1.0, float("inf")), (3.0, 1.0)):
        with pytest.raises(InputError, match="guidance_range must be two rising scales"):
            ScaleConditioner(None, *scales)
    with pytest.raises(InputError, match="told its scale"):
        told()(torch.zeros(1, 2), torch.zeros(1), {"label": torch.zeros(1).long()})
