import torch

from flowgen.core import vector_rows, with_vector


def test_a_vector_stands_before_the_tokens_and_comes_back():
    states = torch.arange(12.0).reshape(2, 2, 3)
    mask = torch.tensor([[True, False], [True, True]])
    vector = torch.arange(8.0).reshape(2, 4) + 100
    found, seen = with_vector(states, mask, vector)
    rows = vector_rows(4, 3)
    assert rows == 2
    assert torch.equal(found[:, :rows].flatten(1)[:, :4], vector)
    assert torch.equal(found[:, rows:], states)
    assert not found[:, rows - 1, 1:].any()
    assert seen.tolist() == [[True, True, True, False], [True, True, True, True]]
