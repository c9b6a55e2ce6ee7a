import pytest
import torch

from flowgen.core import InputError
from flowgen.data import Codec, Identity, Pixels, Standardize


def rebuild(codec):
    config = dict(codec.to_config())
    name = config.pop("_target_").removeprefix("flowgen.data.")
    return {"Pixels": Pixels, "Standardize": Standardize, "Identity": Identity}[name](**config)


@pytest.mark.parametrize("codec", [Pixels(), Standardize([0.5, -1.0], 2.0), Identity()])
def test_a_codec_is_rebuilt_equal_from_its_plain_config(codec):
    assert isinstance(codec, Codec)
    assert rebuild(codec) == codec


def test_pixels_round_trip_every_grey_value_exactly():
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    z = Pixels().encode(x)
    assert z.dtype == torch.float32
    assert z.min() == -1.0
    assert z.max() == 1.0
    assert torch.equal(Pixels().decode(z), x)


def test_pixels_decode_clamps_and_rounds_to_the_nearest_grey():
    step = 2.0 / 255.0
    z = torch.tensor([-3.0, -1.0 + 0.49 * step, -1.0 + 0.51 * step, 0.999, 7.0])
    assert Pixels().decode(z.reshape(5, 1, 1, 1)).flatten().tolist() == [0, 0, 1, 255, 255]


def test_pixels_encode_of_decode_moves_by_half_a_grey_step_at_most(generator):
    z = torch.rand(4, 3, 5, 5, generator=generator) * 2 - 1
    # Half a step is 1 / 255; the rest is float32 rounding.
    assert (Pixels().encode(Pixels().decode(z)) - z).abs().max() <= 1 / 255 + 1e-6


def test_pixels_decode_accepts_half_precision():
    z = torch.tensor([-1.0, 1.0], dtype=torch.bfloat16).reshape(2, 1, 1, 1)
    assert Pixels().decode(z).flatten().tolist() == [0, 255]


def test_pixels_refuse_floats():
    with pytest.raises(InputError, match="uint8"):
        Pixels().encode(torch.zeros(1, 1, 2, 2))


def test_standardize_by_hand_and_back():
    codec = Standardize([1.0, -2.0], [2.0, 0.5])
    x = torch.tensor([[3.0, -1.0], [1.0, -2.0]], dtype=torch.float64)
    z = codec.encode(x)
    assert z.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert torch.equal(codec.decode(z), x)


@pytest.mark.parametrize("std", [0.3, [0.3, 4.0, 1.5]])
@pytest.mark.parametrize("shape", [(1, 3), (4, 3), (4, 3, 2, 5)])
def test_standardize_acts_on_the_first_sample_axis_of_any_shape(shape, std, generator):
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    codec = Standardize([1.0, 2.0, 3.0], std)
    z = codec.encode(x)
    stds = std if isinstance(std, list) else [std] * 3
    for channel in range(3):
        wanted = (x[:, channel] - (channel + 1.0)) / stds[channel]
        torch.testing.assert_close(z[:, channel], wanted, rtol=0, atol=1e-14)
    torch.testing.assert_close(codec.encode(codec.decode(x)), x, rtol=0, atol=1e-13)


def test_standardize_makes_floats_of_integers():
    assert Standardize(1.0, 2.0).encode(torch.tensor([[2]])).tolist() == [[0.5]]


def test_standardize_keeps_the_gradient():
    z = torch.ones(2, 2, requires_grad=True)
    Standardize([0.0, 1.0], [2.0, 3.0]).decode(z).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [[2.0, 3.0], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), ([], 1.0), (0.0, [1.0, float("inf")])],
)
def test_standardize_refuses_impossible_numbers(mean, std):
    with pytest.raises(InputError):
        Standardize(mean, std)


@pytest.mark.parametrize("shape", [(4, 3), (2,), (4, 1, 2)])
def test_standardize_refuses_another_number_of_coordinates(shape):
    with pytest.raises(InputError, match="2 entries"):
        Standardize([0.0, 0.0], 1.0).encode(torch.zeros(shape))


def test_identity_returns_what_it_is_given(generator):
    x = torch.randn(3, 2, generator=generator)
    assert Identity().encode(x) is x
    assert Identity().decode(x) is x
