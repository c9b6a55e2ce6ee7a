import pytest
import torch

from flowgen.models import UNet
from flowgen.models.unet import ImageAttention, ResidualBlock


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 9), (15, 6), (5, 33)])
def test_every_size_works(size):
    torch.manual_seed(0)
    network = UNet((1, *size), width=8, multipliers=(1, 1, 2), num_blocks=1, heads=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    y = network(torch.randn(2, 1, *size), torch.rand(2))
    assert y.shape == (2, 1, *size)
    assert y.flatten(1).std(1).min() > 1e-3


def test_one_level_has_no_halving():
    network = UNet((1, 1, 1), width=8, multipliers=(1,), num_blocks=1, attention_levels=())
    assert network(torch.randn(2, 1, 1, 1), torch.rand(2)).shape == (2, 1, 1, 1)


def test_attention_stands_at_the_chosen_levels():
    def attended(levels):
        network = UNet((1, 8, 8), width=8, multipliers=(1, 2), attention_levels=levels)
        return sum(isinstance(module, ImageAttention) for module in network.modules())

    # Two blocks down and three up on a level; the middle counts to the smallest level.
    assert [attended(levels) for levels in ((), (0,), (1,), (-1,), (0, -1))] == [0, 5, 6, 6, 11]


def test_blocks_start_as_the_identity_on_their_skip():
    torch.manual_seed(0)
    h, c = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    same = ResidualBlock(8, 8, 16, heads=2)
    assert torch.equal(same(h, c), h)
    wider = ResidualBlock(8, 12, 16)
    assert torch.equal(wider(h, c), wider.skip(h))


def test_attention_reaches_across_the_image():
    torch.manual_seed(0)
    attention = ImageAttention(8, 2)
    torch.nn.init.normal_(attention.attention.out.weight)
    h = torch.randn(1, 8, 3, 3, requires_grad=True)
    attention(h)[0, :, 0, 0].sum().backward()
    assert h.grad is not None
    assert (h.grad[0, :, 2, 2].abs() > 0).any()


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    block = ResidualBlock(8, 8, 16, dropout=0.5)
    torch.nn.init.normal_(block.conv.weight)
    h, c = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    assert not torch.equal(block(h, c), block(h, c))
    block.eval()
    assert torch.equal(block(h, c), block(h, c))
