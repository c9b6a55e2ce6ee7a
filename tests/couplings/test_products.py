"""Inner products by whichever library, against double precision."""

import pytest
import torch

from flowgen.couplings.products import inner_products


@pytest.mark.parametrize(("n", "m", "d"), [(3, 5, 1), (70, 40, 3), (200, 300, 784), (64, 64, 3072)])
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_those_of_double_precision(n, m, d, turned, generator):
    x = torch.randn(n, d, generator=generator) + 1
    y = 2 * torch.randn(m, d, generator=generator) - 1
    if turned:  # not contiguous
        y = y.mT.contiguous().mT
    exact = x.double() @ y.double().mT
    scale = x.norm(dim=1)[:, None] * y.norm(dim=1)
    for wide in (torch.float32, torch.float64):
        found = inner_products(x.to(wide), y.to(wide))
        assert found.dtype == wide
        assert found.layout == torch.strided
        assert float(((found - exact).abs() / scale).max()) < 4 * torch.finfo(wide).eps


def test_products_have_their_gradient(generator):
    x, y = (torch.randn(200, 300, generator=generator, requires_grad=True) for _ in range(2))
    inner_products(x, y).sum().backward()
    torch.testing.assert_close(x.grad, y.sum(dim=0).expand(200, 300), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(y.grad, x.sum(dim=0).expand(200, 300), rtol=1e-4, atol=1e-4)


def test_autocast_does_not_round_them(generator):
    x, y = (torch.randn(100, 900, generator=generator) for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = inner_products(x, y)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, inner_products(x, y))
