"""Tiny pipelines of diffusers with random weights, made on the spot; tokenizers included."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

WORDS = ["<|startoftext|>", "<|endoftext|>", "a</w>", "red</w>", "heart</w>", "b", "c", "b</w>"]
SIDE = 8


def clip_tokenizer(folder: Path) -> Any:
    """A tokenizer of CLIP's kind that knows a few words."""
    folder.mkdir(parents=True)
    letters = [*"adehrt", *(f"{each}</w>" for each in "adehrt")]
    known = {word: i for i, word in enumerate(dict.fromkeys([*WORDS, *letters]))}
    (folder / "vocab.json").write_text(json.dumps(known))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )


def word_tokenizer() -> Any:
    """A tokenizer that takes words whole, in the place of T5's and Gemma's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    known = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "red": 4, "heart": 5}
    raw = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def clip(width: int, *, projected: bool = False) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    kind: Any = (
        transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    )
    return kind(config).eval()


def t5(width: int) -> Any:
    config = transformers.T5Config(
        vocab_size=16, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return transformers.T5EncoderModel(config).eval()


def gemma(width: int) -> Any:
    config = transformers.Gemma2Config(
        vocab_size=16,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return transformers.Gemma2Model(config).eval()


def autoencoder(channels: int, *, shift: float | None = None, **more: Any) -> Any:
    made = diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=channels,
        scaling_factor=0.7,
        shift_factor=shift,
        **more,
    ).eval()
    # Latents that hardly scatter, as those of a trained one.
    last: Any = made.encoder.conv_out if made.quant_conv is None else made.quant_conv
    with torch.no_grad():
        last.weight[channels:] = 0
        last.bias[channels:] = -12
    return made


def deep_autoencoder(channels: int) -> Any:
    """An autoencoder of Sana's kind."""
    return diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=channels,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "ResBlock"),
        decoder_block_types=("ResBlock", "ResBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
        scaling_factor=0.4,
    ).eval()


def sd3(folder: Path) -> Any:
    """Stable Diffusion 3: two CLIPs, whose vectors are one, and T5."""
    torch.manual_seed(0)
    network = diffusers.SD3Transformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=_varied(network),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(4, shift=0.2),
        text_encoder=clip(8, projected=True),
        tokenizer=clip_tokenizer(folder / "words"),
        text_encoder_2=clip(8, projected=True),
        tokenizer_2=clip_tokenizer(folder / "words_2"),
        text_encoder_3=t5(16),
        tokenizer_3=word_tokenizer(),
    )


def flux(folder: Path) -> Any:
    """Flux: latents in patches, the vector of a CLIP, tokens of T5, told its guidance."""
    torch.manual_seed(1)
    network = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=24,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return diffusers.FluxPipeline(
        transformer=_varied(network),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder(4, shift=0.1, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(24),
        tokenizer=clip_tokenizer(folder / "words"),
        text_encoder_2=t5(16),
        tokenizer_2=word_tokenizer(),
    )


def sana(folder: Path) -> Any:
    """Sana: tokens of Gemma with their mask."""
    del folder
    torch.manual_seed(2)
    network = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=SIDE,
        patch_size=1,
    )
    words = word_tokenizer()
    return diffusers.SanaPipeline(
        transformer=_varied(network),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0),
        vae=deep_autoencoder(4),
        text_encoder=gemma(16),
        tokenizer=words,
    )


def lumina(folder: Path) -> Any:
    """Lumina: time runs as ours, the answer is the velocity."""
    del folder
    torch.manual_seed(3)
    network = diffusers.Lumina2Transformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(128, 128, 128),
        cap_feat_dim=16,
    )
    return diffusers.Lumina2Pipeline(
        transformer=_varied(network),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0),
        vae=autoencoder(4, shift=0.1),
        text_encoder=gemma(16),
        tokenizer=word_tokenizer(),
    )


def pixart(folder: Path) -> Any:
    """PixArt: a transformer that predicts noise, and a variance beside it."""
    del folder
    torch.manual_seed(4)
    network = diffusers.PixArtTransformer2DModel(
        sample_size=SIDE,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=16,
        cross_attention_dim=16,
        in_channels=4,
        out_channels=8,
    )
    return diffusers.PixArtAlphaPipeline(
        transformer=_varied(network),
        scheduler=_ddim(),
        vae=autoencoder(4),
        text_encoder=t5(16),
        tokenizer=word_tokenizer(),
    )


def stable_diffusion(folder: Path, prediction: str = "epsilon") -> Any:
    """Stable Diffusion: a U-Net that predicts noise, or v."""
    torch.manual_seed(5)
    network = diffusers.UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=4,
        attention_head_dim=2,
    )
    return diffusers.StableDiffusionPipeline(
        unet=_varied(network),
        scheduler=_ddim(prediction),
        vae=autoencoder(4),
        text_encoder=clip(16),
        tokenizer=clip_tokenizer(folder / "words"),
        safety_checker=None,
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )


def saved(make: Any, folder: Path, **settings: Any) -> tuple[Any, str]:
    """Return a tiny pipeline and the folder that it is saved in."""
    pipeline = make(folder / "parts", **settings)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder / "pipeline")
    return pipeline, str(folder / "pipeline")


def _ddim(prediction: str = "epsilon") -> Any:
    return diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )


def _varied(network: Any) -> Any:
    """Layers that start at zero would hide what text and time do."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()
