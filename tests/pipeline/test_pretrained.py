"""Pretrained pipelines of diffusers: our samples are those of their own pipelines."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_diffusers as tiny
from flowgen.distill import Critic
from flowgen.integrators import DDIM, Euler, Sampler, integrate
from flowgen.pipeline import wrap

FLOWS = [tiny.sd3, tiny.flux, tiny.sana, tiny.lumina]
DIFFUSIONS = [tiny.pixart, tiny.stable_diffusion]
STEPS = 4
PROMPTS = ["a red heart", "a heart"]
SCALE = 3.0


def _noise(side: int = tiny.SIDE) -> Tensor:
    return torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(7))


def _theirs(pipeline: Any, x_0: Tensor, *, scale: float, flow: bool, **more: Any) -> Tensor:
    """Latents by the pipeline of diffusers itself."""
    size = x_0.shape[-1] * 2
    given: dict[str, Any] = {"latents": x_0, "height": size, "width": size}
    name = type(pipeline).__name__
    if flow:
        given["sigmas"] = [1 - i / STEPS for i in range(STEPS)]
    if name == "FluxPipeline":
        b, c, h, w = x_0.shape
        given["latents"] = pipeline._pack_latents(x_0, b, c, h, w)
    if name == "SanaPipeline":
        given["use_resolution_binning"] = False
    if name == "PixArtAlphaPipeline":
        given["use_resolution_binning"] = False
    if name == "Lumina2Pipeline":
        given["cfg_trunc_ratio"], given["cfg_normalization"] = 1.0, False
    found = pipeline(
        PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        output_type="latent",
        **given,
        **more,
    ).images
    if name == "FluxPipeline":
        found = pipeline._unpack_latents(found, size, size, pipeline.vae_scale_factor)
    return found


def _latents(ours: Any, x_0: Tensor) -> Tensor:
    """Ours, in the scale of the autoencoder's normalised latents."""
    cond = ours.conditions(range(2), {"prompt": PROMPTS})
    with torch.no_grad():
        return ours.sampler.sample(ours.velocity(), x_0 * ours.initial_scale, cond)


@pytest.mark.parametrize("make", FLOWS, ids=lambda make: make.__name__)
def test_a_flow_samples_as_its_own_pipeline(make: Any, tmp_path: Path) -> None:
    theirs, folder = tiny.saved(make, tmp_path)
    told = make is tiny.flux
    # Sana's pipeline wants multiples of 32 pixels.
    side = 16 if make is tiny.sana else tiny.SIDE
    ours = wrap(folder, size=2 * side, guidance=SCALE if told else None)
    ours = ours.with_sampler(Sampler(Euler(), ours.sampler.grid, STEPS))
    # Flux is told the scale; the others are guided by two evaluations.
    ours = ours if told else ours.guided(SCALE)
    x_0 = _noise(side)
    want = _theirs(theirs, x_0, scale=SCALE, flow=True)
    found = _latents(ours, x_0)
    assert want.std() > 0.1
    torch.testing.assert_close(found, want, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("make", DIFFUSIONS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_a_diffusion_model_samples_as_its_own_pipeline(
    make: Any, scale: float, tmp_path: Path
) -> None:
    _same_as_ddim(make, tmp_path, scale)


def test_v_prediction_samples_as_its_own_pipeline(tmp_path: Path) -> None:
    _same_as_ddim(tiny.stable_diffusion, tmp_path, SCALE, prediction="v_prediction")


def _same_as_ddim(make: Any, folder: Path, scale: float, **settings: Any) -> None:
    theirs, path = tiny.saved(make, folder, **settings)
    # In float64, since the conversion divides by what little data is left at the start.
    ours = wrap(path, size=2 * tiny.SIDE).double().guided(scale)
    for part in theirs.components.values():
        if isinstance(part, torch.nn.Module):
            part.double()
    start = _noise().double() * ours.initial_scale
    seen: list[Tensor] = []

    def keep(pipeline: Any, step: int, time: Any, given: dict[str, Any]) -> dict[str, Any]:
        seen.append(given["latents"].clone())
        return {}

    kept: dict[str, Any] = {"callback_on_step_end": keep}
    if make is tiny.pixart:
        kept = {"callback": lambda step, time, latents: seen.append(latents.clone())}
    want = _theirs(theirs, start, scale=scale, flow=False, **kept)
    cond = ours.conditions(range(2), {"prompt": PROMPTS})
    assert cond is not None
    assert want.std() > 0.1
    cond = {
        name: each.double() if each.is_floating_point() else each for name, each in cond.items()
    }
    end = ours.field.domain[1]
    with torch.no_grad():
        # Steps 999, 749, 499 and 249 of noise, and the data.
        before = integrate(DDIM(), ours.velocity(), start, [0.0, 0.25, 0.5, 0.75], cond)
        found = integrate(DDIM(), ours.velocity(), start, [0.0, 0.25, 0.5, 0.75, end], cond)
    # Tokens are kept in float32.
    torch.testing.assert_close(before, seen[2], atol=1e-6, rtol=1e-6)
    # Their last step drops all noise; ours stops where the path's slope is still finite.
    left = float(ours.field.path.coefficients(torch.tensor([end])).sigma)
    assert left < 0.004
    torch.testing.assert_close(found, want, atol=6 * left, rtol=0)


@pytest.mark.parametrize("make", [*FLOWS, *DIFFUSIONS], ids=lambda make: make.__name__)
def test_a_critic_starts_as_the_network_and_judges_its_features(make: Any, tmp_path: Path) -> None:
    side = 16 if make is tiny.sana else tiny.SIDE
    told = SCALE if make is tiny.flux else None
    ours = wrap(tiny.saved(make, tmp_path)[1], size=2 * side, guidance=told)
    cond = ours.conditions(range(2), {"prompt": PROMPTS})
    x, t = _noise(side), torch.tensor([0.4, 0.7])
    before = ours.field(x, t, cond)
    critic = Critic(ours.field, layer="out", nodes=3)
    found, logits = critic(x, t, cond, node=torch.tensor([0, 2]))
    assert torch.equal(found, before)
    assert logits is not None
    assert torch.equal(logits, torch.zeros(2))
    torch.nn.init.normal_(critic.head.out.weight)
    table = critic.field.network.condition.embeddings["node"]
    with torch.no_grad():
        table.weight[2] += 1.0
    after, logits = critic(x, t, cond, node=torch.tensor([0, 2]))
    torch.testing.assert_close(after[0], before[0])
    assert (after[1] - before[1]).abs().max() > 1e-3
    assert logits.shape == (2,)
    assert (logits != 0).all()
    # The teacher knows nothing of its copy.
    assert torch.equal(ours.field(x, t, cond), before)
