"""A critic starts as the teacher, and leaves no trace in losses of the student."""

import copy

import pytest
import torch
from torch import nn

from flowgen.core import InputError
from flowgen.distill import Critic, Frozen
from flowgen.models import MLP, DiT, Extrapolate, Guided, PredictionField, UNet, UViT
from flowgen.paths import AffinePath, Data, Linear, Velocity
from known_students import OracleField, gaussian

PATH = AffinePath(Linear())


def networks():
    return {
        "mlp": MLP((1, 8, 8), 3, width=16),
        "dit": DiT((1, 8, 8), 3, patch=4, width=16, depth=1, heads=2),
        "unet": UNet((1, 8, 8), 3, width=8, multipliers=(1, 2), num_blocks=1, heads=2),
        "uvit": UViT((1, 8, 8), 3, patch=4, width=16, depth=1, heads=2),
    }


def woken(network):
    """Weights that are not at zero output."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return PredictionField(network, PATH, Velocity())


@pytest.mark.parametrize("name", list(networks()))
def test_starts_as_the_teacher_and_undecided(name, generator):
    torch.manual_seed(0)
    field = woken(networks()[name])
    x = torch.randn(5, 1, 8, 8, generator=generator)
    t, cond = torch.rand(5, generator=generator), {"label": torch.tensor([0, 1, 2, 3, 0])}
    critic = Critic(field, layer="out")
    velocity, logits = critic(x, t, cond)
    assert torch.equal(velocity, field(x, t, cond))
    assert torch.equal(logits, torch.zeros(5))
    nn.init.normal_(critic.head.out.weight)
    _, logits = critic(x, t, cond)
    assert logits.shape == (5,)
    # Each row is judged on its own, by its own state, time and label.
    assert logits.std() > 0
    torch.testing.assert_close(
        critic(x[3:4], t[3:4], {"label": cond["label"][3:4]})[1], logits[3:4]
    )
    other = critic(x, t, {"label": torch.tensor([1, 1, 2, 3, 0])})[1]
    assert other[0] != logits[0]
    torch.testing.assert_close(other[1:], logits[1:])


@pytest.mark.parametrize("name", list(networks()))
def test_learns_each_node_on_its_own(name, generator):
    torch.manual_seed(0)
    field = woken(networks()[name])
    critic = Critic(field, layer="out", nodes=3)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    t, cond = torch.rand(4, generator=generator), {"label": torch.tensor([0, 1, 2, 3])}
    node = torch.tensor([0, 1, 2, 2])
    before = critic(x, t, cond, node=node)[0]
    assert torch.equal(before, field(x, t, cond))
    table = critic.field.network.condition.embeddings["node"]
    with torch.no_grad():
        table.weight[2] += 1.0
    after = critic(x, t, cond, node=node)[0]
    assert torch.equal(after[:2], before[:2])
    assert (after[2:] != before[2:]).flatten(1).any(dim=1).all()
    assert torch.equal(critic(x, t, cond)[0], field(x, t, cond))  # of the first node
    with pytest.raises(InputError, match="cannot be told"):
        Critic(OracleField(gaussian(2.0, 0.5)), nodes=2)


def test_is_a_copy_that_asks_for_no_gradient_until_it_learns(generator):
    field = woken(MLP((2,), width=16))
    guided = Guided(field, Extrapolate(2.0), lambda n, device: {})
    before = copy.deepcopy(field.state_dict())
    for teacher in (field, Frozen(field), guided, Frozen(guided)):
        critic = Critic(teacher, layer="out")
        assert critic.field is not field
        assert isinstance(critic.field, PredictionField)
        assert not any(p.requires_grad for p in critic.parameters())
    nn.init.normal_(critic.head.out.weight)
    x = torch.randn(4, 2, generator=generator, requires_grad=True)
    critic(x, torch.full((4,), 0.5))[1].sum().backward()
    assert float(x.grad.abs().sum()) > 0
    for parameter in critic.parameters():
        assert parameter.grad is None
        parameter.data.zero_()
    for name, value in field.state_dict().items():
        assert torch.equal(value, before[name])


def test_never_drops_features(generator):
    field = PredictionField(
        DiT((1, 4, 4), patch=2, width=16, depth=1, heads=2, dropout=0.5), PATH, Velocity()
    )
    critic = Critic(woken(field.network), layer="out").train()
    x, t = torch.randn(3, 1, 4, 4, generator=generator), torch.full((3,), 0.3)
    assert torch.equal(critic(x, t)[0], critic(x, t)[0])


def test_times_stay_where_the_velocity_is_finite(generator):
    critic = Critic(PredictionField(MLP((2,), width=8), PATH, Data()))
    x = torch.randn(3, 2, generator=generator)
    velocity, logits = critic(x, torch.ones(3))
    assert velocity.isfinite().all()
    assert logits is None


def test_copies_of_it_tap_their_own_layer(generator):
    critic = Critic(woken(MLP((2,), width=16)), layer="out")
    other = copy.deepcopy(critic)
    nn.init.normal_(other.head.out.weight)
    nn.init.constant_(other.field.network.embed.weight, 1.0)
    x, t = torch.randn(3, 2, generator=generator), torch.full((3,), 0.3)
    assert torch.equal(critic(x, t)[1], torch.zeros(3))
    assert float(other(x, t)[1].abs().sum()) > 0


def test_refuses_what_has_no_such_layer():
    field = woken(MLP((2,), width=16))
    with pytest.raises(InputError, match="no layer 'last'"):
        Critic(field, layer="last")
    with pytest.raises(InputError, match="not of a SiLU"):
        Critic(field, layer="activation")
    with pytest.raises(InputError, match="has none"):
        Critic(gaussian(2.0, 0.5))
    with pytest.raises(InputError, match="width"):
        Critic(OracleField(gaussian(2.0, 0.5)), width=0)
