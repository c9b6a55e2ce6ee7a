"""Quality against cost: the solver's own error falls as its order says, and costs are honest."""

import pytest
import torch
from PIL import Image

from flowgen.core import InputError
from flowgen.data import Digits, EightGaussians, PointData
from flowgen.evaluation import Fine, Setting, Transport, save_plot, sweep, variants
from flowgen.evaluation.plot import figures_of
from flowgen.integrators import Adaptive, Euler, Heun, Sampler, Uniform
from flowgen.metrics import LPIPS, rmse
from flowgen.models import ClassifierFree
from small import built, image_config, vector_config

DATA = PointData(EightGaussians(), num_train=60, num_test=60)


def setting(**changes):
    pipeline = built(vector_config())
    with torch.no_grad():
        for parameter in pipeline.field.network.condition.parameters():
            parameter.mul_(0.05)  # slow in time, so that orders show at few steps
    return Setting(pipeline, DATA, 40, **changes)


def samplers():
    return {
        "euler": Sampler(Euler(), Uniform(), 8),
        "heun": Sampler(Heun(), Uniform(), 8),
        "dopri5": Sampler(Adaptive(rtol=1e-6, atol=1e-6), Uniform(), 1),
    }


def test_error_falls_with_the_order_and_costs_are_counted():
    rows = list(sweep(setting(), variants(samplers(), [4, 8, 16]), [], Fine(32, 20)))
    found = {(row["sampler"], row["num_steps"]): row for row in rows}
    assert len(found) == 7  # the adaptive one once
    for name, order, cost in (("euler", 1, 1), ("heun", 2, 2)):
        errors = [found[name, n]["rmse_to_fine"] for n in (4, 8, 16)]
        for coarse, finer in zip(errors, errors[1:], strict=False):
            assert coarse / finer == pytest.approx(2**order, rel=0.35)
        assert [found[name, n]["nfe"] for n in (4, 8, 16)] == [4 * cost, 8 * cost, 16 * cost]
        assert found[name, 4]["network_rows"] == 4 * cost
    assert found["dopri5", 1]["rmse_to_fine"] < 1e-4
    assert found["dopri5", 1]["nfe"] > 20
    assert 0 < rows[0]["rmse_to_fine_floor"] < 1e-4


def test_error_is_that_of_the_same_noise():
    own = setting(seed=3, chunk=7)
    (row,) = sweep(own, variants({"euler": Sampler(Euler(), Uniform(), 2)}, []), [], Fine(32, 20))
    coarse, fine = (
        own.pipeline.with_sampler(s).sample(20, seed=3, decode=False)
        for s in (Sampler(Euler(), Uniform(), 2), Sampler(Heun(), Uniform(), 500))
    )
    assert row["rmse_to_fine"] == pytest.approx(rmse(coarse, fine), rel=1e-3)


def test_guidance_is_paid_in_network_rows():
    pipeline, data = built(image_config()), Digits()
    one = variants({"euler": Sampler(Euler(), Uniform(), 4)}, [])
    for guidance, rows in ((1.0, 4), (3.0, 8), (ClassifierFree(3.0, [0.0, 0.5]), 6)):
        guided = Setting(pipeline.guided(guidance), data, 10)
        (row,) = sweep(guided, one, [], Fine(4, 6))
        assert (row["nfe"], row["network_rows"]) == (4, rows)
        assert row["psnr_to_fine"] > 10
        assert "ssim_to_fine" not in row  # images of 4 pixels


class Constant:
    """Stands for a perceptual distance, whose weights are in no package."""

    def __call__(self, x, y):
        assert x.dtype == y.dtype == torch.uint8
        return torch.full((len(x),), 0.25)


def test_larger_images_have_more_paired_figures():
    config = image_config(None)
    config["field"]["network"]["shape"] = config["source"]["shape"] = [1, 32, 32]
    one = variants({"euler": Sampler(Euler(), Uniform(), 1)}, [])
    perceptual = Constant()
    perceptual.__class__ = type("Perceptual", (Constant, LPIPS), {})
    setting = Setting(built(config), Digits(), 4)
    (row,) = sweep(setting, one, [], Fine(2, 2), lpips=perceptual)
    assert row["lpips_to_fine"] == 0.25
    assert -1 <= row["ssim_to_fine"] <= 1


def test_measures_see_the_samples_of_each_sampler():
    rows = list(sweep(setting(), variants(samplers(), [1, 16]), [Transport()], Fine(8, 5)))
    assert len({row["w2"] for row in rows}) == len(rows)
    assert len({row["w2_floor"] for row in rows}) == 1
    assert all(row["seconds"] >= 0 for row in rows)


def test_numbers_of_steps_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="euler with num_steps=0"):
        variants(samplers(), [0])
    for wrong in ((1, 4), (4, 0)):
        with pytest.raises(InputError, match=r"fine\.num_"):
            Fine(*wrong)


def test_plot_shows_every_figure(tmp_path):
    rows = [
        {"sampler": s, "num_steps": n, "nfe": n, "a": 1 / n, "a_floor": 0.1, "b": -n, "seconds": 1}
        for s in ("euler", "heun")
        for n in (1, 2, 64)
    ]
    rows[0]["a"] = float("nan")
    assert figures_of(rows) == ["a", "b"]
    save_plot(rows, tmp_path / "plot.png", title="what")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > picture.height
    with pytest.raises(InputError, match="nothing to draw"):
        save_plot([{"sampler": "x", "nfe": 1}], tmp_path / "none.png")


def test_the_field_goes_back_to_training():
    own = setting()
    own.pipeline.field.train()
    list(sweep(own, variants(samplers(), [1]), [], Fine(2, 3)))
    assert own.pipeline.field.training
    assert not own.pipeline.field._forward_pre_hooks
    assert torch.is_grad_enabled()


def test_a_plot_has_no_empty_panels(tmp_path, monkeypatch):
    """Four figures on a grid of six places: the last two are not shown."""
    from matplotlib.figure import Figure

    seen = []
    saved = Figure.savefig

    def spy(figure, *args, **settings):
        seen.append([axes.get_visible() for axes in figure.axes])
        return saved(figure, *args, **settings)

    monkeypatch.setattr(Figure, "savefig", spy)
    rows = [{"sampler": "x", "nfe": n, "a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0} for n in (1, 2)]
    save_plot(rows, tmp_path / "plot.png")
    assert seen == [[True] * 4 + [False] * 2]
