import pytest
import torch

from flowgen.core import InputError
from flowgen.models import TimeEmbedding


def features(embedding, t):
    """What the embedding feeds to its first layer."""
    seen = []
    hook = embedding.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    embedding(t)
    hook.remove()
    return seen[0]


def test_features_by_hand():
    embedding = TimeEmbedding(4, num_frequencies=3, max_frequency=25.0).double()
    t = torch.tensor([0.0, 0.3], dtype=torch.float64)
    angles = t[:, None] * torch.tensor([1.0, 5.0, 25.0], dtype=torch.float64)
    expected = torch.cat([angles.cos(), angles.sin()], dim=1)
    torch.testing.assert_close(features(embedding, t), expected, rtol=0, atol=1e-5)


def test_the_derivative_in_time_is_bounded():
    embedding = TimeEmbedding(8, max_frequency=50.0).double()
    for t in torch.linspace(0, 1, 11, dtype=torch.float64):
        _, slope = torch.func.jvp(
            lambda t: features(embedding, t), (t[None],), (torch.ones(1, dtype=torch.float64),)
        )
        assert slope.abs().max() <= 50.0 * (1 + 1e-6)


def test_autocast_does_not_round_times():
    torch.manual_seed(0)
    embedding = TimeEmbedding(8)
    t = torch.rand(5)
    with torch.autocast("cpu", torch.bfloat16):
        inside = embedding(t)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, embedding(t))


@pytest.mark.parametrize(
    "arguments",
    [{"width": 0}, {"num_frequencies": 1}, {"max_frequency": 1.0}, {"max_frequency": float("inf")}],
)
def test_arguments_are_checked(arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        TimeEmbedding(**{"width": 4, **arguments})
