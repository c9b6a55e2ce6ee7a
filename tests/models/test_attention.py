import math

import pytest
import torch
from torch.nn import functional

from flowgen.core import InputError
from flowgen.models import (
    Attention,
    LearnedPositions,
    Positions,
    RotaryPositions,
    attend,
    math_attention,
)
from flowgen.models.positions import rotate


def qkv(n=7, m=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    sizes = (2, 3, n, 8), (2, 3, m, 8), (2, 3, m, 8)
    return [torch.randn(size, generator=generator).to(dtype) + 0.3 for size in sizes]


def softmax_by_hand(q, k, v):
    out = torch.zeros_like(q)
    for index in torch.cartesian_prod(*(torch.arange(s) for s in q.shape[:3])).tolist():
        b, h, i = index
        weights = [math.exp(float(q[b, h, i] @ key) / math.sqrt(q.shape[-1])) for key in k[b, h]]
        out[b, h, i] = sum(w * value for w, value in zip(weights, v[b, h], strict=True)) / sum(
            weights
        )
    return out


def test_both_kernels_are_the_formula():
    q, k, v = qkv()
    expected = softmax_by_hand(q, k, v)
    torch.testing.assert_close(attend(q, k, v), expected)
    with math_attention():
        torch.testing.assert_close(attend(q, k, v), expected)


@pytest.fixture
def fused_calls(monkeypatch):
    calls = []
    fused = functional.scaled_dot_product_attention

    def counted(*arguments):
        calls.append(arguments)
        return fused(*arguments)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    return calls


def test_the_kernel_follows_the_type_and_the_context(fused_calls):
    attend(*qkv())
    assert len(fused_calls) == 1
    with math_attention():
        with math_attention():
            attend(*qkv())
        attend(*qkv())
    assert len(fused_calls) == 1
    half = attend(*qkv(dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert len(fused_calls) == 1
    with pytest.raises(RuntimeError), math_attention():
        raise RuntimeError
    attend(*qkv())
    assert len(fused_calls) == 2


def test_in_half_precision_the_number_of_logits_decides(fused_calls, monkeypatch):
    q, k, v = qkv(n=7, m=5, dtype=torch.bfloat16)
    exact = attend(q.double(), k.double(), v.double())
    for most, fused in ((35, 0), (34, 1)):
        fused_calls.clear()
        monkeypatch.setattr("flowgen.models.attention.MOST_LOGITS", most)
        got = attend(q, k, v)
        assert len(fused_calls) == fused
        torch.testing.assert_close(got.double(), exact, rtol=0.03, atol=0.03)


def test_scaling_queries_changes_nothing():
    torch.manual_seed(0)
    attention = Attention(8, 2).double()
    tokens = torch.randn(2, 5, 8, dtype=torch.float64)
    before = attention(tokens)
    with torch.no_grad():
        attention.project.weight[:16] *= 5.0  # queries and keys, not values
        attention.project.bias[:16] *= 5.0
    # Equal up to the 1e-6 that keeps the norm from dividing by zero.
    torch.testing.assert_close(attention(tokens), before, rtol=1e-4, atol=1e-6)


def test_attention_without_positions_does_not_know_the_order():
    torch.manual_seed(0)
    attention, tokens = Attention(8, 2), torch.randn(1, 6, 8)
    order = torch.randperm(6)
    torch.testing.assert_close(attention(tokens[:, order]), attention(tokens)[:, order])
    rotation = RotaryPositions((2, 3), 8, 2).rotation()
    turned = attention(tokens, rotation)
    assert (attention(tokens[:, order], rotation) - turned[:, order]).abs().max() > 1e-4


def test_rotary_products_depend_on_the_shift_alone():
    """<R(p) q, R(p') k> = <R(p + s) q, R(p' + s) k> on every row and column of the grid."""
    rows, columns, head = 6, 7, 16
    rotation = RotaryPositions((rows, columns), 2 * head, 2).rotation().double()
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, head, generator=generator, dtype=torch.float64)
    everywhere = torch.ones(1, 1, rows * columns, 1, dtype=torch.float64)
    queries = rotate(q * everywhere, rotation).view(rows, columns, head)
    keys = rotate(k * everywhere, rotation).view(rows, columns, head)
    products = torch.einsum("abd,ijd->abij", queries, keys)
    # The table is float32: 1e-7 of the products' size.
    torch.testing.assert_close(
        products[:-2, :-1, :-2, :-1], products[2:, 1:, 2:, 1:], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(products[0, 0, 0, 0], q @ k)
    assert (products[0, 0] - products[0, 0, 0, 0]).abs().flatten()[1:].min() > 1e-4
    norms = queries.square().sum(-1)
    torch.testing.assert_close(norms, q.square().sum().expand_as(norms), atol=1e-5, rtol=0)


def test_rotary_angles_by_hand():
    cos, sin = RotaryPositions((3, 4), 16, 2, base=16.0).rotation()
    # Token 6 is row 1, column 2; a head of 8 has frequencies 1 and 1/4 for each axis.
    angles = torch.tensor([1.0, 0.25, 2.0, 0.5])
    torch.testing.assert_close(cos[6], angles.cos())
    torch.testing.assert_close(sin[6], angles.sin())
    x = torch.zeros(1, 1, 12, 8)
    x[..., 0] = 1.0
    turned = rotate(x, torch.stack([cos, sin]))[0, 0, 6]
    expected = torch.zeros(8)
    expected[0], expected[4] = math.cos(1.0), math.sin(1.0)
    torch.testing.assert_close(turned, expected)


def test_kinds_of_positions():
    tokens = torch.randn(2, 6, 8)
    plain = Positions((2, 3), 8, 2)
    assert torch.equal(plain.embed(tokens), tokens)
    assert plain.rotation() is None
    learned = LearnedPositions((2, 3), 8, 2)
    assert learned.rotation() is None
    assert torch.equal(learned.embed(tokens)[1, 4], tokens[1, 4] + learned.table[4])
    with pytest.raises(InputError, match="base must be"):
        RotaryPositions((2, 3), 8, 2, base=1.0)


def test_heads_must_divide():
    with pytest.raises(InputError, match="heads must divide width, got 3 heads for width 8"):
        Attention(8, 3)
