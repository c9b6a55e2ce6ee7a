import pytest
import torch
from torch import nn

from flowgen.core import InputError
from flowgen.metrics import LPIPS
from flowgen.metrics.lpips import CHANNELS, _alexnet


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights in the published layouts."""
    folder = tmp_path_factory.mktemp("lpips")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = {f"features.{name}": value for name, value in _alexnet().state_dict().items()}
        heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(CHANNELS)}
    torch.save(state | {"classifier.1.bias": torch.zeros(2)}, folder / "trunk.pth")
    torch.save(heads, folder / "heads.pth")
    return folder / "trunk.pth", folder / "heads.pth"


def images(n=3, channels=3, side=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, channels, side, side)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def by_hand(x, y, files):
    """Equation 1, with hooks on the ReLUs of a whole AlexNet."""
    trunk, heads = (torch.load(file, weights_only=True) for file in files)
    network = _alexnet()
    network.load_state_dict({k[9:]: v for k, v in trunk.items() if k.startswith("features.")})
    seen = []
    for layer in network:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    features = []
    for side in (x, y):
        seen.clear()
        network((side.float() / 255 - mean) / std)
        features.append([f / f.norm(dim=1, keepdim=True) for f in seen])
    total = 0
    for i, (a, b) in enumerate(zip(*features, strict=True)):
        weighted = (a - b).square() * heads[f"lin{i}.model.1.weight"]
        total = total + weighted.sum(dim=1).mean(dim=(1, 2))
    return total


def test_agrees_with_the_definition(files):
    x, y = images(), images(seed=1)
    found = LPIPS(*files, batch_size=2)(x, y)
    # The published shift and scale are ImageNet's mean and spread rounded to 3 digits.
    assert torch.allclose(found, by_hand(x, y, files), rtol=2e-2)


def test_a_distance(files):
    distance, x, y = LPIPS(*files), images(), images(seed=1)
    assert torch.equal(distance(x, x), torch.zeros(3))
    assert torch.allclose(distance(x, y), distance(y, x))
    near = (x.int() + 3).clamp(max=255).to(torch.uint8)
    assert bool((distance(x, near) < distance(x, y)).all())
    grey = images(channels=1), images(channels=1, seed=1)
    assert torch.allclose(distance(*grey), distance(*(g.expand(-1, 3, -1, -1) for g in grey)))


def test_the_smallest_image(files):
    distance = LPIPS(*files)
    assert float(distance(images(1, 3, 31), images(1, 3, 31, 1))) > 0
    with pytest.raises(InputError, match="31 pixels"):
        distance(images(1, 3, 30), images(1, 3, 30))
    with pytest.raises(InputError, match="one shape"):
        distance(images(1, 3, 40), images(1, 3, 41))


def test_wrong_files_are_told(files, tmp_path):
    trunk, heads = files
    with pytest.raises(InputError, match="no file"):
        LPIPS(tmp_path / "none.pth", heads)
    with pytest.raises(InputError, match="do not hold"):
        LPIPS(heads, trunk)
    with pytest.raises(InputError, match="do not hold"):
        LPIPS(trunk, trunk)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match="no file of weights"):
        LPIPS(tmp_path / "text.pth", heads)
    with pytest.raises(InputError, match="batch_size"):
        LPIPS(trunk, heads, batch_size=0)
