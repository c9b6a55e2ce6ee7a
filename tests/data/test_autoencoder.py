"""Autoencoders of diffusers: every kind there and back, by path, and of a pipeline on the hub."""

import json

import pytest
import torch

import tiny_diffusers as tiny
from flowgen.core import InputError
from flowgen.data import LatentCodec, built, decoded, encoded, read_autoencoder
from flowgen.data.autoencoder import KINDS, digest_of
from hub_server import served

LEVELS = {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}
KL = {**LEVELS, "block_out_channels": [8, 8], "norm_num_groups": 4, "latent_channels": 4}
TWO = [8, 8]

SETTINGS = {
    "AutoencoderKL": KL,
    "AutoencoderTiny": {
        "encoder_block_out_channels": TWO,
        "decoder_block_out_channels": TWO,
        "num_encoder_blocks": [1, 1],
        "num_decoder_blocks": [1, 1],
    },
    "AutoencoderDC": {
        "latent_channels": 4,
        "attention_head_dim": 2,
        **dict.fromkeys(["encoder_block_types", "decoder_block_types"], ["ResBlock"] * 2),
        **dict.fromkeys(["encoder_block_out_channels", "decoder_block_out_channels"], TWO),
        **dict.fromkeys(["encoder_layers_per_block", "decoder_layers_per_block"], [1, 1]),
        **dict.fromkeys(["encoder_qkv_multiscales", "decoder_qkv_multiscales"], [[], []]),
    },
    "AsymmetricAutoencoderKL": {
        **LEVELS,
        "down_block_out_channels": TWO,
        "up_block_out_channels": [8, 16],
        "norm_num_groups": 4,
    },
    "AutoencoderKLFlux2": KL,
    "AutoencoderKLHunyuanImage": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": [32, 32],
        "layers_per_block": 1,
        "spatial_compression_ratio": 2,
        "sample_size": 16,
    },
    "AutoencoderKLKVAE": {
        "channels": 32,
        "ch_mult": [1, 1],
        "num_enc_blocks": 1,
        "num_dec_blocks": 1,
        "z_channels": 4,
    },
    "VQModel": {**KL, "num_vq_embeddings": 16},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_there_and_back_by_path_and_in_a_codec(kind, tmp_path):
    """What is saved is read, and its settings and weights make the codec of a checkpoint."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    made = built({"_class_name": kind, **SETTINGS[kind]}).eval()
    made.save_pretrained(tmp_path)
    network, settings = read_autoencoder(tmp_path)
    with torch.no_grad():
        (z, std), (again, _) = encoded(made, x), encoded(network, x)
        image = decoded(network, z)
    assert z.shape == (2, 4, 8, 12)
    assert image.shape == x.shape
    assert std is None or ((std > 0).all() and std.shape == z.shape)
    torch.testing.assert_close(again, z, rtol=1e-4, atol=1e-5)
    codec = LatentCodec(
        json.loads(json.dumps(settings)),
        (3, 16, 24),
        (4, 8, 12),
        *([0.1, 0.2, 0.3, 0.4], [0.5, 1.0, 1.5, 2.0]),
        digest_of(settings, network),
    )
    codec.network.load_state_dict(network.state_dict())
    assert digest_of(codec.settings, codec.network) == codec.digest
    back = codec.decode(codec.encode(x))
    wanted = ((image.clamp(-1, 1) + 1) * 127.5).round()
    assert (back.float() - wanted).abs().max() <= 1
    assert image.std() > 0


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with served(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.mark.parametrize("inside", ["", "vae/"])
def test_the_hub_gives_an_autoencoder_and_that_of_a_pipeline(hub, tmp_path, inside):
    torch.manual_seed(0)
    made = tiny.autoencoder(4)
    made.save_pretrained(tmp_path / "made")
    hub.files["some/name"] = {
        inside + each.name: each.read_bytes() for each in (tmp_path / "made").iterdir()
    }
    network, settings = read_autoencoder("some/name")
    assert digest_of(settings, network) == digest_of(settings, made)
    assert settings["scaling_factor"] == 0.7


def test_what_the_hub_lacks_is_told_in_one_line(hub):
    with pytest.raises(InputError, match=r"no autoencoder of diffusers at 'no/body': \S") as told:
        read_autoencoder("no/body")
    assert "\n" not in str(told.value)
    hub.files["some/transformer"] = {"config.json": b'{"_class_name": "UNet2DModel"}'}
    with pytest.raises(InputError, match="holds a UNet2DModel"):
        read_autoencoder("some/transformer")
