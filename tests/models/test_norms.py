"""Features that stand out are amplified by a scale, and are not without one."""

import torch

from flowgen.models import DiT, NonScalingNorm, ScalingNorm
from flowgen.models.dit import DiTBlock


def test_without_a_scale_every_token_keeps_unit_variance(generator):
    x = 5 + 3 * torch.randn(4, 6, 16, generator=generator, dtype=torch.float64)
    shift, scale = (torch.full((4, 1, 16), value, dtype=torch.float64) for value in (0.5, 2.0))
    plain = torch.nn.functional.layer_norm(x, (16,), eps=1e-6)
    torch.testing.assert_close(ScalingNorm(16)(x, shift, scale), 3 * plain + 0.5)
    found = NonScalingNorm(16)(x, shift, scale)
    torch.testing.assert_close(found, plain + 0.5)
    assert (found.var(dim=2, correction=0) - 1).abs().max() < 1e-5


def test_nothing_is_learnt_in_the_norms(generator):
    assert not list(NonScalingNorm(8).parameters())
    assert not list(ScalingNorm(8).parameters())


def test_transformer_without_scales_cannot_be_scaled(generator):
    """Its modulation's scales have no effect and get no gradient; shifts and gates do."""
    torch.manual_seed(0)
    network = DiT((1, 4, 4), patch=2, width=8, depth=2, heads=2, norm=NonScalingNorm)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert all(
        isinstance(b.norm, NonScalingNorm) for b in network.blocks if isinstance(b, DiTBlock)
    )
    x = torch.randn(3, 1, 4, 4, generator=generator)
    network(x, torch.rand(3, generator=generator)).square().sum().backward()
    assert network.modulation.weight.grad is not None
    rows = network.modulation.weight.grad.view(14, 8, -1).abs().amax(dim=(1, 2))
    scales = torch.tensor([1, 4, 7, 10, 13])
    assert (rows[scales] == 0).all()
    others = [i for i in range(14) if i not in scales.tolist()]
    assert (rows[others] > 0).all()
