from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MissingMandatoryValue, OmegaConf
from PIL import Image

from flowgen.core import InputError, Source
from flowgen.data import DataSet, loader
from image_places import make_latents, make_shards

CONFIGS = Path(__file__).parents[2] / "configs"


def pictures(folder):
    for i in range(4):
        Image.new("RGB", (9, 9), (i, 0, 0)).save(folder / f"{i}.png")
    return str(folder)


def latents(folder):
    make_latents(folder)
    return str(folder / "latents")


def shards(folder):
    make_shards(folder)
    return str(folder / "shards.tar")


def hub(folder):
    make_shards(folder)
    return str(folder / "hub")


PLACES = {"root": pictures, "folder": latents, "shards": shards, "path": hub}
"""What a missing setting is filled with."""


def node(path):
    facts = {"facts": {"shape": [2]}}
    return OmegaConf.merge(facts, {"node": OmegaConf.load(path)}).node


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("data/*.yaml")), ids=lambda p: p.stem)
def test_every_data_config_gives_batches(path, tmp_path):
    config = node(path)
    for key, make in PLACES.items():
        if OmegaConf.is_missing(config, key):
            with pytest.raises(MissingMandatoryValue):
                _ = config[key]
            config[key] = make(tmp_path)
    if path.stem == "latents":
        config.images = {"_target_": "flowgen.data.Digits"}
    try:
        data = instantiate(config)
    except (InputError, InstantiationException) as error:
        # Hydra tells of what a constructor raises as the cause of an error of its own.
        cause = error.__cause__ or error
        if not isinstance(cause, InputError) or "install" not in str(cause):
            raise
        pytest.skip(str(cause))  # a package or files that are optional
    assert isinstance(data, DataSet)
    batch = next(iter(loader(data.train, batch_size=3)))
    assert batch["x_1"].shape == (3, *data.shape)
    assert ("label" in batch) == (data.num_classes is not None)
    z = data.codec.encode(batch["x_1"])
    assert z.dtype == torch.float32
    again = instantiate(dict(data.codec.to_config()))
    if isinstance(again, torch.nn.Module):
        assert again.to_config() == data.codec.to_config()
        assert z.shape[1:] == data.codec.encoded_shape(data.shape)
        return
    assert again == data.codec
    torch.testing.assert_close(again.decode(z), batch["x_1"])


SOURCES = sorted(CONFIGS.glob("source/*.yaml"))
OF_DATA = [path for path in SOURCES if "data" in OmegaConf.load(path)]


@pytest.mark.parametrize("path", OF_DATA, ids=lambda p: p.stem)
def test_every_source_of_data_has_the_defaults_of_its_data_set(path):
    """And what the data say of their own size is asked of them, in a run that has it."""
    own = OmegaConf.load(path)
    assert own["_target_"] == "flowgen.data.DataSource"
    asked = OmegaConf.merge({"facts": {"shape": [3, 8, 8]}, "data": {"size": 8}}, {"node": own})
    found = asked.node.data
    defaults = OmegaConf.load(CONFIGS / "data" / path.name)
    assert set(found) == set(defaults)
    differing = {
        key
        for key in defaults
        if not OmegaConf.is_missing(defaults, key) and found[key] != defaults[key]
    }
    assert differing <= {"size", "types"}
    if "size" in found:
        assert found.size == 8


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path not in OF_DATA], ids=lambda p: p.stem
)
def test_every_source_config_draws_from_its_generator(path, generator):
    source = instantiate(node(path))
    assert isinstance(source, Source)
    x = source.sample(5, generator=generator)
    assert x.shape == (5, 2)
    assert x.dtype == torch.float32
    assert torch.equal(x, source.sample(5, generator=torch.Generator().manual_seed(0)))


def test_a_two_dimensional_set_and_its_source_have_one_law():
    for path in CONFIGS.glob("source/*.yaml"):
        data = CONFIGS / "data" / path.name
        if data.exists() and path not in OF_DATA:
            assert OmegaConf.load(data).distribution == OmegaConf.load(path)
