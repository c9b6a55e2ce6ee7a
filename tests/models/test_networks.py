"""What holds for every network: the contract (x, t, cond) -> y."""

import pytest
import torch
from torch import nn

from flowgen.core import InputError
from flowgen.distill.forward_mode import jvp
from flowgen.models import MLP, DiT, UNet, math_attention


def test_output_is_exactly_zero_at_the_start(build):
    network = build(4)
    x = torch.randn(2, *network.shape)
    out = network(x, torch.tensor([0.0, 1.0]), {"label": torch.tensor([0, 4])})
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert not out.any()


def test_rows_do_not_see_each_other(network, batch):
    x, t, cond = batch
    whole = network(x, t, cond)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = network(x[order], t[order], {"label": cond["label"][order]})
    torch.testing.assert_close(shuffled, whole[order], rtol=0, atol=1e-12)
    alone = network(x[2:3], t[2:3], {"label": cond["label"][2:3]})
    torch.testing.assert_close(alone, whole[2:3], rtol=0, atol=1e-12)


def test_every_input_matters_for_every_row(network, batch):
    x, t, cond = batch
    before = network(x, t, cond).flatten(1)
    others = (x + 0.1, t, cond), (x, t * 0.9, cond), (x, t, {"label": (cond["label"] + 1) % 5})
    for changed in others:
        assert ((network(*changed).flatten(1) - before).abs().amax(1) > 1e-6).all()


def test_gradient_reaches_every_parameter(network, batch):
    x, t, _ = batch
    network(x, t, {"label": torch.arange(5)}).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_forward_derivative_matches_finite_difference(network, batch):
    x, t, cond = batch
    t = 0.1 + 0.8 * t
    dx, h = torch.randn_like(x), 3e-7
    with math_attention():
        _, tangent = jvp(lambda x, t: network(x, t, cond), (x, t), (dx, torch.ones(5).double()))
    difference = (network(x + h * dx, t + h, cond) - network(x - h * dx, t - h, cond)) / (2 * h)
    # Central differences: h^2 times a third derivative of about 100^3, and rounding over h.
    torch.testing.assert_close(tangent, difference, rtol=1e-5, atol=1e-6)


def test_conditions_must_be_those_the_network_was_built_for(build, network, batch):
    x, t, cond = batch
    with pytest.raises(InputError, match="'label' is missing.*null label"):
        network(x, t)
    with pytest.raises(InputError, match=r"\['text'\] given to a network built for \['label'\]"):
        network(x, t, {**cond, "text": x})
    with pytest.raises(InputError, match="has shape .* for 5 samples"):
        network(x, t, {"label": cond["label"][:3]})
    with pytest.raises(InputError, match="int64"):
        network(x, t, {"label": cond["label"].float()})
    with pytest.raises(ValueError, match="label must be <= 4"):
        network(x, t, {"label": cond["label"] + 1})
    plain = build(None).double()
    assert plain(x, t).shape == plain(x, t, {}).shape == x.shape
    with pytest.raises(InputError, match="without conditions"):
        plain(x, t, cond)


def test_wrong_shapes_and_types_are_refused(network, batch):
    x, t, cond = batch
    with pytest.raises(InputError, match="x must have shape"):
        network(x[..., :-1], t, cond)
    with pytest.raises(InputError, match="x must be floating"):
        network(x.to(torch.uint8), t, cond)
    for bad in (t[:, None], t[:2], t.mean()):
        with pytest.raises(InputError, match="t must have shape"):
            network(x, bad, cond)
    with pytest.raises(InputError, match="t must be float32"):
        network(x, t.to(torch.bfloat16), cond)


def test_half_precision_weights_see_unrounded_times(build):
    network = build(None)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    network = network.to(torch.bfloat16)
    x = torch.randn(2, *network.shape)
    assert network(x, torch.tensor([0.5, 0.5])).dtype == torch.bfloat16
    time = network.condition.time
    # bfloat16 rounds both times to 0.7031; their features differ by up to 1e-3 * max_frequency.
    c = time(torch.tensor([0.703, 0.704]))
    assert not torch.equal(c[0], c[1])


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: MLP(()), "shape must hold"),
        (lambda: MLP((2, 0)), "shape must hold"),
        (lambda: MLP((2,), 0), "num_classes must be a positive"),
        (lambda: MLP((2,), depth=0), "depth must be"),
        (lambda: MLP((2,), activation=nn.PReLU()), "activation must have no parameters"),
        (lambda: DiT((28, 28)), "shape must have 3 axes"),
        (lambda: DiT((1, 28, 28), patch=3), "patch 3 must divide the image, 28 x 28"),
        (lambda: DiT((1, 8, 8), width=10, heads=4), "heads must divide width"),
        (lambda: DiT((1, 8, 8), width=12, heads=2), "divisible by 4"),
        (lambda: DiT((1, 8, 8), mlp_ratio=0.0), "mlp_ratio must be"),
        (lambda: DiT((1, 8, 8), dropout=1.0), r"dropout must lie in \[0, 1\)"),
        (lambda: UNet((1, 8, 8), multipliers=(1, 2, 2, 2)), "4 levels are too many for 8 x 8"),
        (lambda: UNet((1, 8, 8), multipliers=()), "multipliers must be"),
        (lambda: UNet((1, 8, 8), multipliers=(1, 0)), "multipliers must be"),
        (lambda: UNet((1, 8, 8), attention_levels=(3,)), "attention_levels must name"),
        (lambda: UNet((1, 8, 8), width=5), "heads must divide width"),
        (lambda: UNet((1, 8, 8), num_blocks=0), "num_blocks must be"),
    ],
)
def test_arguments_are_checked_when_built(make, rule):
    with pytest.raises(InputError, match=rule):
        make()
