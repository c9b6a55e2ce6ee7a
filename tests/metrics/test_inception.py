import pytest
import torch
from torch.nn.functional import interpolate

from flowgen.core import InputError
from flowgen.metrics import FeatureSummary, InceptionFeatures
from flowgen.metrics.inception import resize_like_tensorflow_1
from flowgen.metrics.inception_network import FIDInception, Forks, _average, _largest


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the layout of the port, with random weights and its unused classifier."""
    generator = torch.Generator().manual_seed(0)
    state = FIDInception().state_dict()
    for name, value in state.items():
        if name.endswith("conv.weight"):
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
    # As old ports do, this one does not say how many batches the statistics are of.
    state = {name: value for name, value in state.items() if "num_batches" not in name}
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


def test_parameters_are_those_of_inception_v3():
    # Known of the published network without its auxiliary head: 23 834 568 with 1000 outputs.
    count = sum(parameter.numel() for parameter in FIDInception().parameters())
    assert count == 23_834_568 - 1000 * (2048 + 1)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Conv2d_1a_3x3.conv.weight", (32, 3, 3, 3)),
        ("Mixed_5b.branch5x5_2.conv.weight", (64, 48, 5, 5)),
        ("Mixed_6a.branch3x3dbl_3.bn.running_var", (96,)),
        ("Mixed_6c.branch7x7dbl_2.conv.weight", (160, 160, 7, 1)),
        ("Mixed_6e.branch7x7_2.conv.weight", (192, 192, 1, 7)),
        ("Mixed_7a.branch7x7x3_3.conv.weight", (192, 192, 7, 1)),
        ("Mixed_7c.branch3x3dbl_3a.conv.weight", (384, 384, 1, 3)),
        ("Mixed_7c.branch_pool.conv.weight", (192, 2048, 1, 1)),
    ],
)
def test_names_and_shapes_are_those_of_the_port(name, shape):
    assert FIDInception().state_dict()[name].shape == shape


def test_pools_are_those_of_the_tensorflow_graph():
    x = torch.ones(1, 1, 4, 4)
    x[..., 0, 0] = 7
    # Padding is not counted: the corner is the mean of its 4 neighbours.
    assert float(_average(x)[0, 0, 0, 0]) == pytest.approx((7 + 3) / 4)
    assert float(_largest(x)[0, 0, 1, 1]) == 7
    network = FIDInception()
    assert isinstance(network.Mixed_7b, Forks)
    assert network.Mixed_7b.pool is _average
    assert network.Mixed_7c.pool is _largest


def test_resizing_is_on_the_grid_of_tensorflow_1():
    # A line of [0, 1, 3] to 6: places 0, .5, 1, 1.5, 2, 2.5; beyond the last pixel it is held.
    x = torch.tensor([0.0, 1.0, 3.0]).expand(1, 1, 3, 3)
    found = resize_like_tensorflow_1(x, 6)
    assert torch.allclose(found[0, 0, 2], torch.tensor([0, 0.5, 1, 2, 3, 3.0]))
    y = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(resize_like_tensorflow_1(y, 7)[..., 0], y[..., 0])
    # Enlarging is torch's interpolation of the picture shifted by the difference of the grids.
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    shifted = interpolate(ramp, size=16, mode="bilinear")[0, 0, 8, 4:12]
    ours = resize_like_tensorflow_1(ramp, 16)[0, 0, 8, 4:12]
    assert torch.allclose(ours - shifted, torch.full((8,), 0.25))


def test_features_of_grey_and_colour_and_of_any_split(weights):
    extractor = InceptionFeatures(weights, batch_size=2)
    grey = torch.randint(0, 256, (3, 1, 20, 20), dtype=torch.uint8)
    found = extractor(grey)
    assert found.shape == (3, 2048)
    assert torch.allclose(found, extractor(grey.expand(-1, 3, -1, -1)), atol=1e-4)
    assert torch.allclose(found[1:], extractor(grey[1:]), atol=1e-3)
    assert float(found.std()) > 0
    assert extractor(grey[:0]).shape == (0, 2048)
    assert FeatureSummary.of(grey, extractor, 2).count == 3


def test_what_is_no_such_file_is_told_in_one_line(tmp_path, weights):
    with pytest.raises(InputError, match="no such file"):
        InceptionFeatures(tmp_path / "none.pth")
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, other)
    (tmp_path / "text.pth").write_text("hello")
    for path in (other, tmp_path / "text.pth"):
        with pytest.raises(InputError, match="does not hold the weights") as raised:
            InceptionFeatures(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="batch_size"):
        InceptionFeatures(weights, batch_size=0)
