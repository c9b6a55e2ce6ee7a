"""Every value names its file: the one that holds it, and the last one that does."""

import pytest
import yaml
from omegaconf import OmegaConf

from flowgen.cli import main
from flowgen.cli.compose import composed
from flowgen.cli.config_dir import config_dir
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.origins import COMMAND_LINE, annotated, origins

LINES = {
    "nothing": [],
    "an experiment": ["experiment=fashion_mnist"],
    "choices": ["path=trig", "prediction@loss_space=data", "callbacks=evaluate", "sampler=euler"],
    "a group inside a group": ["sampler=euler", "grid@sampler.grid=shifted", "model=unet"],
    "values": ["optimizer.lr=3e-4", "optimizer.betas=[0.9,0.95]", "+trainer.profiler=simple"],
}


def leaves(config, prefix=""):
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def in_file(file, key):
    """The value that a file of the real tree holds for a composed key, wherever it is put."""
    content = yaml.safe_load((config_dir() / file).read_text())
    parts = key.split(".")
    for start in range(len(parts)):
        found = content
        for part in parts[start:]:
            found = found.get(part, ...) if isinstance(found, dict) else ...
        if found is not ...:
            return found
    raise AssertionError(f"{file} does not hold {key}")


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("verb", ["train", "sample"])
def test_the_named_file_holds_the_value(name, verb):
    words = LINES[name]
    if verb == "sample":
        words = [word for word in words if word.startswith(("sampler", "grid"))]
    tree = ConfigTree((config_dir(),))
    with composed(tree, verb, words) as config:
        found = origins(verb, words)
        values = dict(leaves(OmegaConf.to_container(config)))
    assert set(values) == set(found)
    for key, value in values.items():
        file = found[key].split(",")[0]
        if file == COMMAND_LINE:
            assert any(word.lstrip("+").startswith(f"{key}=") for word in words)
        else:
            assert in_file(file, key) == value, key


def test_later_files_and_the_command_line_win(tree):
    words = ["experiment=digits", "seed=4", "~compile", "optimizer.betas=[0.5,0.6]"]
    small = ConfigTree((tree,))
    with composed(small, "train", words):
        found = origins("train", words)
    assert found["trainer.max_steps"] == "experiment/digits.yaml"
    assert found["trainer.devices"] == "trainer/cpu.yaml"
    assert found["path.schedule.power"] == "path/trig.yaml"
    assert found["seed"] == found["optimizer.betas"] == COMMAND_LINE
    assert found["optimizer.lr"] == "optimizer/adam.yaml"
    assert found["width"] == "train.yaml, = trainer.max_steps"
    assert found["loss_space._target_"] == "prediction/velocity.yaml"
    assert "compile" not in found


def test_show_says_it_beside_each_value(tree, capsys):
    assert main(["config", "show", "seed=4", "path=trig"], config_dir=tree) == 0
    out = capsys.readouterr().out
    lines = {line.split(":")[0].strip(): line for line in out.splitlines()}
    assert lines["seed"].endswith("  # command line")
    assert lines["power"].endswith("# train.yaml, = path") or "# path/trig.yaml" in out
    assert yaml.safe_load(out)["seed"] == 4
    comments = {line.index("#") for line in out.splitlines() if "  # " in line}
    assert len(comments) == 1  # they stand below each other


def test_what_cannot_be_traced_is_left_alone():
    assert annotated("a: 1\nb:\n  c: 2\n", {"b": "x.yaml"}) == "a: 1\nb:\n  c: 2  # x.yaml\n"
