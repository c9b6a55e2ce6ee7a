import pytest
import torch

from flowgen.models import DiT, LearnedPositions
from flowgen.models.dit import DiTBlock
from flowgen.models.patches import Patches
from two_processes import run_program


def test_block_starts_as_the_identity_and_modulation_opens_it():
    torch.manual_seed(0)
    block = DiTBlock(8, 2, 2.0, dropout=0.0).double()
    tokens = torch.randn(3, 5, 8, dtype=torch.float64)
    modulation = torch.zeros(3, 6, 8, dtype=torch.float64)
    assert torch.equal(block(tokens, modulation), tokens)
    normal = torch.nn.functional.layer_norm(tokens, (8,), eps=1e-6)
    modulation[:, 2] = 1.0
    only_attention = block(tokens, modulation)
    torch.testing.assert_close(only_attention, tokens + block.attention(normal))
    modulation[:, 2], modulation[:, 3], modulation[:, 4], modulation[:, 5] = 0.0, 0.4, 1.5, -2.0
    expected = tokens - 2.0 * block.mlp(normal * 2.5 + 0.4)
    torch.testing.assert_close(block(tokens, modulation), expected)


def test_patches_and_image_are_inverse_and_row_by_row():
    cutter = Patches((2, 4, 6), 2)
    x = torch.arange(2 * 48.0).view(2, 2, 4, 6)
    patches = cutter.cut(x)
    assert torch.equal(cutter.join(patches), x)
    assert torch.equal(patches[1, 4], x[1, :, 2:4, 2:4].flatten())


# Peebles and Xie 2022, table 1, count the same 1000-class networks on 32x32x4 latents.
@pytest.mark.parametrize(
    ("width", "depth", "heads", "patch", "published"),
    [
        (384, 12, 6, 2, 33e6),
        (768, 12, 12, 2, 130e6),
        (1024, 24, 16, 2, 458e6),
        (1152, 28, 16, 2, 675e6),
    ],
)
def test_published_sizes(width, depth, heads, patch, published):
    with torch.device("meta"):
        network = DiT((4, 32, 32), 1000, patch=patch, width=width, depth=depth, heads=heads)
    count = sum(parameter.numel() for parameter in network.parameters())
    # Published counts are rounded to a million, and include a learned variance in the last layer.
    assert count == pytest.approx(published, rel=0.01)


def test_parameter_count_by_formula():
    w, depth, k = 32, 3, 5
    network = DiT((2, 4, 4), k, patch=2, width=w, depth=depth, heads=2, positions=LearnedPositions)
    block = (3 * w * w + 3 * w) + 2 * (w // 2) + (w * w + w) + (8 * w * w + 5 * w)
    time = (256 * w + w) + (w * w + w)
    ends = (8 * w + w) + (8 * w + 8) + (k + 1) * w + 4 * w
    modulation = (6 * depth + 2) * (w * w + w)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == depth * block + time + ends + modulation


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    network = DiT((1, 4, 4), patch=2, width=8, depth=1, heads=2, dropout=0.5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x, t = torch.randn(2, 1, 4, 4), torch.tensor([0.2, 0.7])
    assert not torch.equal(network(x, t), network(x, t))
    network.eval()
    assert torch.equal(network(x, t), network(x, t))


def test_rotary_network_sees_where_things_are():
    """Equal patches at different places give different outputs once positions are known."""
    torch.manual_seed(0)
    network = DiT((1, 4, 4), patch=1, width=16, depth=1, heads=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = 3.0
    y = network(x, torch.tensor([0.5]))[0, 0]
    assert (y[1, 1] - y[3, 3]).abs() > 1e-4


COMPILED = """
import torch
from flowgen.models import DiT, PredictionField, math_attention
from flowgen.paths import AffinePath, Noise, Trig

torch.manual_seed(0)
network = DiT((1, 4, 4), 3, patch=2, width=8, depth=2, heads=2)
for parameter in network.parameters():
    torch.nn.init.normal_(parameter, std=0.3)
x, t, cond = torch.randn(2, 1, 4, 4), torch.tensor([0.2, 0.7]), {"label": torch.tensor([0, 3])}
field = PredictionField(network, AffinePath(Trig()), Noise(), data_std=0.5)
expected = field(x, t, cond)
whole = torch.compile(field, fullgraph=True, backend="eager")
torch.testing.assert_close(whole(x, t, cond), expected)
with math_attention():
    torch.testing.assert_close(whole(x, t, cond), expected, rtol=1e-4, atol=1e-5)
for block in network.blocks:
    block.compile(fullgraph=True, backend="eager")
torch.testing.assert_close(field(x, t, cond), expected)
"""


@pytest.mark.slow
def test_field_and_blocks_compile_without_a_graph_break():
    # In a process of its own: the run-time type checks of the tests are themselves graph breaks.
    run_program(COMPILED)
