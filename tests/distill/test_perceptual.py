"""A perceptual distance beside that of velocities: zero at the pairs, with a gradient to them."""

import pytest
import torch
from torch import nn

from flowgen.core import InputError, Pair
from flowgen.distill import PerceptualMatching
from flowgen.metrics import LPIPS
from flowgen.metrics.lpips import CHANNELS, _alexnet
from flowgen.objectives import Discrete, FlowMatching
from flowgen.paths import AffinePath, Linear, Trig

PATH = AffinePath(Linear())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights in the published layouts."""
    folder = tmp_path_factory.mktemp("lpips")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = {f"features.{name}": value for name, value in _alexnet().state_dict().items()}
        heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(CHANNELS)}
    names = [str(folder / "trunk.pth"), str(folder / "heads.pth")]
    for name, state in zip(names, (trunk, heads), strict=True):
        torch.save(state, name)
    return names


class Knows(nn.Module):
    """The velocity that leads from each source sample to its datum, and an image more."""

    def __init__(self, pair, path, shift):
        super().__init__()
        self.pair, self.path = pair, path
        self.shift = nn.Parameter(shift)

    def forward(self, x, t, cond=None):
        c = self.path.coefficients(t)
        d_alpha, d_sigma = (v[:, None, None, None] for v in (c.d_alpha, c.d_sigma))
        return d_alpha * self.pair.x_1 + d_sigma * self.pair.x_0 + self.shift


def images(generator, channels=3, side=40):
    x = torch.rand(2, 4, channels, side, side, generator=generator) * 2 - 1
    return Pair(x[0], x[1])


@pytest.mark.parametrize("schedule", [Linear(), Trig()])
@pytest.mark.parametrize("channels", [1, 3])
def test_is_zero_at_the_pairs_and_falls_along_its_gradient(files, schedule, channels, generator):
    path, pair = AffinePath(schedule), images(generator, channels)
    objective = PerceptualMatching(path, Discrete(1), lpips=files)
    right = objective(Knows(pair, path, torch.zeros(1)), pair, generator=generator)
    assert float(right.value.detach().abs().max()) < 1e-8

    def lpips(model):
        return objective(model, pair, generator=torch.Generator().manual_seed(1)).terms["lpips"]

    wrong = Knows(pair, path, torch.rand(pair.x_1.shape, generator=generator) - 0.5)
    loss = objective(wrong, pair, generator=torch.Generator().manual_seed(1))
    loss.total().backward()
    before = lpips(wrong)
    with torch.no_grad():
        wrong.shift -= 0.05 * wrong.shift.grad / wrong.shift.grad.abs().max()
    assert float(lpips(wrong).mean()) < float(before.mean())


def test_it_is_the_measure_of_the_same_name(files, generator):
    """From time 0 the velocity leads to ``x_0 + v``; eight bits of an image are all LPIPS sees."""
    pair = images(generator)
    grey = [(255 * torch.rand(pair.x_1.shape, generator=generator)).to(torch.uint8) for _ in "ab"]
    a, b = (z.float() / 127.5 - 1 for z in grey)
    pair = Pair(pair.x_0, b)
    model = Knows(pair, PATH, a - b)
    objective = PerceptualMatching(PATH, Discrete(1), lpips=files, weight=3.0)
    loss = objective(model, pair, generator=generator)
    torch.testing.assert_close(loss.terms["lpips"], LPIPS(*files)(*grey), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.value, loss.terms["velocity"] + 3 * loss.terms["lpips"])


def test_without_weights_it_is_flow_matching(generator):
    pair = images(generator, side=8)
    model = Knows(pair, PATH, torch.randn(1, generator=generator))
    draws = [torch.Generator().manual_seed(3) for _ in range(2)]
    found = PerceptualMatching(PATH)(model, pair, generator=draws[0])
    plain = FlowMatching(PATH)(model, pair, generator=draws[1])
    assert torch.equal(found.value, plain.value)
    assert found.terms == {}


def test_small_images_are_scaled_up_where_asked(files, generator):
    pair = images(generator, side=8)
    model = Knows(pair, PATH, torch.rand(1, 3, 8, 8, generator=generator))
    with pytest.raises(InputError, match="31 pixels"):
        PerceptualMatching(PATH, lpips=files)(model, pair, generator=generator)
    loss = PerceptualMatching(PATH, lpips=files, side=32)(model, pair, generator=generator)
    assert float(loss.terms["lpips"].min()) > 0


def test_weights_are_no_part_of_the_objective(files):
    objective = PerceptualMatching(PATH, lpips=files).double().train()
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}
    assert not objective._held[0].training
    assert next(objective._held[0].parameters()).dtype == torch.float64  # moves with its owner


def test_refusals(files, generator):
    with pytest.raises(InputError, match="weight must be"):
        PerceptualMatching(PATH, weight=0.0)
    with pytest.raises(InputError, match="two files"):
        PerceptualMatching(PATH, lpips=files[:1])
    with pytest.raises(InputError, match="no file"):
        PerceptualMatching(PATH, lpips=["none", "none"])
    points = Pair(torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(InputError, match="compares images"):
        PerceptualMatching(PATH, lpips=files)(lambda x, t, cond=None: x, points)
