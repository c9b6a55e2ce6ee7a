"""Features that stand out are amplified by a scale, and are not without one."""

import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm

from flowgen.core import InputError
from flowgen.distill.forward_mode import jvp
from flowgen.models import DiT, MMDiT, NonScalingNorm, ScalingNorm, UViT, math_attention
from flowgen.models.dit import DiTBlock
from networks import configured, perturbed


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


TEXT_WIDTH = 6
SMALL = {"patch": 2, "width": 16, "depth": 3, "heads": 2}
NORMS = {"dit_tiny": 7, "mmdit_tiny": 12, "uvit_tiny": 7}
"""How often a network of three blocks normalises tokens of its own."""


def made(name, kind):
    """A small network as its YAML file builds it, with ``model.norm._target_`` set."""
    text = TEXT_WIDTH if name == "mmdit_tiny" else None
    norm = {"norm": {"_target_": f"flowgen.models.{kind}"}}
    torch.manual_seed(0)
    return perturbed(configured(name, (3, 4, 6), 3, text, **SMALL, **norm)).double()


def batch_for(name):
    generator = torch.Generator().manual_seed(1)
    x = 2 + 3 * torch.randn(4, 3, 4, 6, generator=generator, dtype=torch.float64)
    t = 0.1 + 0.8 * torch.rand(4, generator=generator, dtype=torch.float64)
    cond = {"label": torch.tensor([0, 3, 1, 2])}
    if name == "mmdit_tiny":
        cond["text"] = torch.randn(4, 5, TEXT_WIDTH, generator=generator, dtype=torch.float64)
        cond["text_mask"] = torch.arange(5) < torch.tensor([5, 1, 3, 2])[:, None]
    return x, t, cond


@pytest.mark.parametrize("kind", ["ScalingNorm", "NonScalingNorm"])
@pytest.mark.parametrize("name", NORMS)
def test_every_transformer_takes_the_norm_of_its_config(name, kind):
    """Without a scale, each norm in it adds the same to all tokens of a sample, and no more."""
    network, seen = made(name, kind), []

    def look(module, given, out):
        x = given[0].detach()
        more = out.detach() - layer_norm(x, x.shape[-1:], eps=1e-6)
        seen.append(float((more - more[:, :1]).abs().max()))

    for module in network.modules():
        if isinstance(module, ScalingNorm | NonScalingNorm | nn.LayerNorm):
            module.register_forward_hook(look)
    assert network(*batch_for(name)).isfinite().all()
    assert len(seen) == NORMS[name]
    assert all(each < 1e-12 if kind == "NonScalingNorm" else each > 0.1 for each in seen)


@pytest.mark.parametrize("name", NORMS)
def test_without_scales_gradients_and_derivatives_are_whole(name):
    network = made(name, "NonScalingNorm")
    x, t, cond = batch_for(name)
    network(x, t, cond).square().sum().backward()
    for place, parameter in network.named_parameters():
        assert parameter.grad is not None, place
        assert parameter.grad.abs().max() > 0, place
    dx, h = torch.randn_like(x), 1e-6
    with math_attention():
        _, tangent = jvp(lambda x, t: network(x, t, cond), (x, t), (dx, torch.ones_like(t)))
    difference = (network(x + h * dx, t + h, cond) - network(x - h * dx, t - h, cond)) / (2 * h)
    torch.testing.assert_close(tangent, difference, rtol=1e-5, atol=1e-6)


def test_a_u_vit_learns_its_shifts_and_its_scales_where_there_are_any():
    """By default as ever: weights and biases of layer norms, under their names."""
    torch.manual_seed(0)
    default = UViT((1, 4, 4), **SMALL)
    plain = UViT((1, 4, 4), **SMALL, norm=NonScalingNorm)
    norms = [f"blocks.{i}.norm_{part}" for i in range(3) for part in ("attention", "mlp")]
    weights = {f"{norm}.weight" for norm in (*norms, "norm")}
    assert default.state_dict().keys() - plain.state_dict().keys() == weights
    assert plain.state_dict().keys() < default.state_dict().keys()
    perturbed(default)
    for name in weights:
        nn.init.ones_(default.get_parameter(name))
    plain.load_state_dict({k: v for k, v in default.state_dict().items() if k not in weights})
    x, t = torch.randn(2, 1, 4, 4), torch.tensor([0.2, 0.7])
    torch.testing.assert_close(plain(x, t), default(x, t))
    nn.init.constant_(default.get_parameter("norm.weight"), 1.5)
    assert (default(x, t) - plain(x, t)).abs().max() > 0.01


@pytest.mark.parametrize("network", [DiT, UViT, MMDiT])
def test_a_norm_that_nothing_modulates_is_refused(network):
    text = {"text_width": 4} if network is MMDiT else {}
    with pytest.raises(InputError, match="LayerNorm is not: use flowgen.models.ScalingNorm"):
        network((1, 4, 4), patch=2, width=8, depth=3, heads=2, norm=torch.nn.LayerNorm, **text)
