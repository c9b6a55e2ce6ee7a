"""Rules of forward mode against torch's own, for values, derivatives and the gradients of both."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from flowgen.distill import forward_mode
from flowgen.distill.forward_mode import jvp
from flowgen.distill.forward_mode.dual import Dual
from flowgen.models import MLP, DiT, UNet, math_attention

WIDTH = 6
WEIGHT = torch.linspace(-1.0, 1.3, WIDTH * WIDTH, dtype=torch.float64).reshape(WIDTH, WIDTH)
ROW = torch.linspace(0.3, 1.7, WIDTH, dtype=torch.float64)
KERNEL = torch.linspace(-1.0, 1.0, 4 * 4 * 9, dtype=torch.float64).reshape(4, 4, 3, 3)


def centred(x):
    return x - x.mean(dim=-1, keepdim=True)


def layer_norm(x, eps):
    return centred(x) * (centred(x).square().mean(dim=-1, keepdim=True) + eps).rsqrt()


# torch differentiates the derivative of this one as if mean and scale were constants.
WRITTEN_OUT = {
    "layer norm": lambda x: layer_norm(x, 1e-6),
    "layer norm, scaled": lambda x: layer_norm(x, 1e-5) * ROW + ROW,
}

OPERATIONS = {
    "linear": lambda x: functional.linear(x, WEIGHT, ROW),
    "linear, no bias": lambda x: functional.linear(x, WEIGHT),
    "linear, by name": lambda x: functional.linear(x, weight=WEIGHT, bias=ROW),
    "linear in the weight": lambda x: functional.linear(WEIGHT, x[0, 0]),
    "x + c": lambda x: x + ROW,
    "c + x": lambda x: ROW + x,
    "x + x^T": lambda x: x[..., :4, :4] + x[..., :4, :4].mT,
    "broadcast": lambda x: x[:1] + x,
    "x - 2": lambda x: x - 2,
    "2 - x": lambda x: 2 - x,
    "c - x": lambda x: ROW - x,
    "add alpha": lambda x: torch.add(x, x * x, alpha=0.5),
    "c x": lambda x: ROW * x,
    "2 x": lambda x: 2.0 * x,
    "x x": lambda x: x * x.roll(1, -1),
    "x / c": lambda x: x / ROW,
    "c / x": lambda x: ROW / (x * x + 1),
    "1 / x": lambda x: 1 / (x * x + 1),
    "x / y": lambda x: x / (x * x + 1),
    "x @ W": lambda x: x @ WEIGHT,
    "W @ x": lambda x: WEIGHT[:, : x.shape[-2]] @ x,
    "x @ x^T": lambda x: x @ x.transpose(-1, -2),
    "addcmul": lambda x: torch.addcmul(x, x.square(), 1 + x),
    "addcmul of a constant": lambda x: torch.addcmul(ROW, x, ROW),
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "tanh": lambda x: x.tanh(),
    "relu": torch.relu,
    "sin": torch.sin,
    "cos": lambda x: x.cos(),
    "exp": torch.exp,
    "log": lambda x: (x * x + 1).log(),
    "sqrt": lambda x: (x * x + 1).sqrt(),
    "rsqrt": lambda x: (x * x + 1).rsqrt(),
    "square": lambda x: x.square(),
    "power": lambda x: x**3,
    "softmax": lambda x: x.softmax(dim=-1),
    "softmax of another axis": lambda x: functional.softmax(x, 1),
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "where": lambda x: torch.where(x > 0, x * 2, ROW),
    "layer norm": lambda x: functional.layer_norm(x, (WIDTH,), eps=1e-6),
    "layer norm, scaled": lambda x: functional.layer_norm(x, (WIDTH,), ROW, ROW),
    "rms norm": lambda x: functional.rms_norm(x, (WIDTH,), ROW, 1e-6),
    "rms norm, plain": lambda x: functional.rms_norm(x, (WIDTH,)),
    "group norm": lambda x: functional.group_norm(x, 2, ROW[:4], ROW[:4]),
    "convolution": lambda x: functional.conv2d(x, KERNEL, ROW[:4], padding=1),
    "transposed convolution": lambda x: functional.conv_transpose2d(x, KERNEL, stride=2),
    "interpolate": lambda x: functional.interpolate(x, scale_factor=2.0, mode="nearest"),
    "average pool": lambda x: functional.avg_pool2d(x, 2),
    "cat": lambda x: torch.cat([x, ROW.expand_as(x), x * x], dim=1),
    "stack": lambda x: torch.stack([x, -x]),
    "chunk": lambda x: x.chunk(2, dim=1)[1] * x.chunk(2, dim=1)[0],
    "unbind": lambda x: x.unbind(1)[0] * x.unbind(1)[2],
    "index": lambda x: x[:, torch.tensor([2, 0])],
    "mean": lambda x: x.mean(dim=(1, 2), keepdim=True) * x,
    "sum": lambda x: x.sum(dim=-1),
    "max": lambda x: x.amax(dim=-1),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=-1),
    "einsum": lambda x: torch.einsum("bcij,bckj->bik", x, x),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x * x, x + 1),
    "attention, masked": lambda x: functional.scaled_dot_product_attention(
        x, x, x, attn_mask=torch.tensor([True, False, True, True, True, False])
    ),
    "attention to constants": lambda x: functional.scaled_dot_product_attention(
        x, WEIGHT.expand_as(x), WEIGHT.expand_as(x), WEIGHT
    ),
    "in place": lambda x: (x * 2).add_(x),
    "by halves": lambda x: x.float().to(torch.float64) * 2,
}


@pytest.fixture(name="point")
def _point():
    generator = torch.Generator().manual_seed(3)
    x, w = torch.randn(2, 3, 4, WIDTH, WIDTH, dtype=torch.float64, generator=generator).unbind(0)
    return x, w


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_have_the_derivative_of_torch(name, point):
    x, w = point
    function = OPERATIONS[name]
    with math_attention():
        expected, slope = torch.func.jvp(function, (x,), (w,))
    for graph in (False, True):
        value, tangent = jvp(function, (x,), (w,), graph=graph)
        assert type(value) is type(tangent) is torch.Tensor
        assert torch.allclose(value, expected, rtol=1e-14, atol=1e-15)
        assert torch.allclose(tangent, slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_derivatives_have_the_gradients_of_torch(name, point):
    x, w = (tensor.clone().requires_grad_() for tensor in point)
    function = OPERATIONS[name]
    value, tangent = jvp(function, (x,), (w,), graph=True)
    with math_attention():
        expected, slope = torch.func.jvp(WRITTEN_OUT.get(name, function), (x,), (w,))

    def gradient(output):
        weights = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype)
        loss = (output.flatten() * weights).sum() + output.square().sum()
        return torch.autograd.grad(
            loss, (x, w), retain_graph=True, allow_unused=True, materialize_grads=True
        )

    for found, other in ((value, expected), (tangent, slope)):
        for a, b in zip(gradient(found), gradient(other), strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["linear", "layer norm, scaled", "softmax", "max", "in place"])
def test_a_derivative_without_graph_has_none(name, point):
    x, w = (tensor.clone().requires_grad_() for tensor in point)
    value, tangent = jvp(OPERATIONS[name], (x,), (w,))
    assert value.requires_grad
    assert not tangent.requires_grad


def test_a_constant_has_no_derivative(point):
    x, w = point
    value, tangent = jvp(lambda _: ROW, (x,), (w,))
    assert value is ROW
    assert torch.equal(tangent, torch.zeros_like(ROW))


def test_several_tensors_vary_together(point):
    x, w = point
    s = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)

    def function(x, s):
        return x * s.reshape(-1, 1, 1, 1).cos() + s.reshape(-1, 1, 1, 1)

    _, tangent = jvp(function, (x, s), (w, torch.ones_like(s)))
    _, expected = torch.func.jvp(function, (x, s), (w, torch.ones_like(s)))
    assert torch.allclose(tangent, expected, rtol=1e-14, atol=1e-14)


def test_dropout_drops_the_same_of_value_and_derivative(point):
    x, w = point
    torch.manual_seed(0)
    value, tangent = jvp(lambda x: functional.dropout(x, 0.5), (x,), (w,))
    torch.manual_seed(0)
    assert torch.equal(value, functional.dropout(x, 0.5))
    assert torch.equal(tangent, torch.where(value == 0, 0.0, 2 * w))
    value, tangent = jvp(lambda x: functional.dropout(x, 0.5, training=False), (x,), (w,))
    assert torch.equal(value, x)
    assert torch.equal(tangent, w)


NETWORKS = {
    "mlp": (lambda: MLP((2,), 3, width=16, depth=2, interval=True), (2,)),
    "dit": (
        lambda: DiT((1, 8, 8), 3, patch=4, width=16, depth=2, heads=2, interval=True),
        (1, 8, 8),
    ),
    "unet": (lambda: UNet((1, 8, 8), 3, interval=True), (1, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_followed_by_rules_alone(name, monkeypatch):
    """No operation of a network of ours is left to torch, whose rules take ten times as long."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = make().double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    generator = torch.Generator().manual_seed(1)
    x, w = torch.randn(2, 4, *shape, dtype=torch.float64, generator=generator).unbind(0)
    s, t = torch.rand(2, 4, dtype=torch.float64, generator=generator).unbind(0)
    label = torch.tensor([0, 3, 1, 2])

    def function(x, s):
        return network(x, s, {"label": label, "interval": t - s})

    with math_attention(), torch.no_grad():
        expected, slope = torch.func.jvp(function, (x, s), (w, torch.ones_like(s)))

    def refuse(func, args, kwargs):
        raise AssertionError(f"{func} has no rule")

    monkeypatch.setattr(Dual, "unruled", refuse)
    monkeypatch.setattr(forward_mode, "by_torch_alone", refuse)
    with math_attention():
        value, tangent = jvp(function, (x, s), (w, torch.ones_like(s)))
    assert torch.allclose(value, expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(tangent, slope, rtol=1e-10, atol=1e-10)
