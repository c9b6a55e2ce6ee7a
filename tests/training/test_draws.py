"""What was drawn is given again, in order, where the seeds would give other numbers."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.training.draws import Record, Repeat


def everything(seed):
    """All the ways in which flowgen and its networks draw."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 3, generator=generator, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dropped = torch.nn.functional.dropout(x, 0.4, training=True)
        like = torch.rand_like(x)
    dropped.sum().backward()
    assert x.grad is not None
    chances = torch.full((5,), 0.5)
    return [
        x.detach(),
        dropped.detach(),
        x.grad,
        like,
        torch.rand(4, generator=generator),
        torch.randint(0, 9, (4,), generator=generator),
        torch.randperm(6, generator=generator),
        torch.empty(3).normal_(generator=generator),
        torch.bernoulli(chances, generator=generator),
        torch.multinomial(chances, 3, generator=generator),
    ]


def test_all_kinds_of_draws_are_repeated():
    with Record() as record:
        first = everything(0)
    assert not any(torch.equal(a, b) for a, b in zip(first[:5], everything(1)[:5], strict=True))
    with Repeat(record.drawn):
        again = everything(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_recording_changes_nothing():
    with Record():
        recorded = everything(0)
    assert all(torch.equal(a, b) for a, b in zip(recorded, everything(0), strict=True))


def test_the_mask_of_an_accelerator_fits_the_dropout_of_a_cpu_and_back():
    """One draws a mask by itself, the other fills a tensor with it."""
    x = torch.arange(1.0, 7.0)
    mask = torch.tensor([True, False, True, True, False, False])
    expected = x * mask / 0.75
    with Repeat([mask]):
        assert torch.allclose(torch.nn.functional.dropout(x, 0.25, training=True), expected)
    with Repeat([mask.float()]):
        answer, kept = torch.ops.aten.native_dropout(x, 0.25, True)
    assert torch.allclose(answer, expected)
    assert torch.equal(kept, mask)
    with Record() as record:
        torch.ops.aten.native_dropout(x, 0.25, True)
    assert record.drawn[0].dtype == torch.bool


def test_draws_of_something_else_are_refused():
    with Repeat([torch.zeros(3)]), pytest.raises(InputError, match="other random numbers"):
        torch.rand(4)
    with Repeat([torch.zeros(3)]), pytest.raises(InputError, match="other random numbers"):
        torch.empty(2).normal_()
    with Repeat([]), pytest.raises(InputError, match="fewer random numbers"):
        torch.rand(4)
