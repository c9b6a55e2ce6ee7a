"""README and docs: every Python block runs, every command is understood, every link leads on."""

import re
from pathlib import Path

import pytest
import torch

from documents import PAGES, ROOT, blocks, commands, inline_code, links, name, sessions
from flowgen.cli import config_dir
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.flags import parse_flags
from flowgen.cli.main import main
from flowgen.cli.overrides import OverrideCheck
from flowgen.cli.verbs import verb_named
from flowgen.data import Moons
from flowgen.pipeline import description
from flowgen.pipeline.checkpoint import KEY
from small import built, image_config

WITH_PYTHON = [page for page in PAGES[2:] if blocks(page, "python")]  # README has a test of its own


def digits_config():
    """What a run on the digits has in its checkpoint, only smaller."""
    config = image_config(None)
    config["field"]["network"] |= {"shape": [1, 8, 8], "num_classes": 10}
    config["source"]["shape"] = [1, 8, 8]
    config["conditioner"] = {"_target_": "flowgen.models.LabelConditioner", "num_classes": 10}
    return config


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with the run and the configs that the documents speak of."""
    pipeline = built(digits_config())
    weights = pipeline.field.state_dict().items()
    state = {f"{part}.field.{k}": v for part in ("pipeline", "ema") for k, v in weights}
    checkpoint = tmp_path / "runs" / "digits" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"state_dict": state, KEY: description(pipeline)}, checkpoint)
    choice = tmp_path / "my_configs" / "distance" / "log_cosh.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text(blocks(ROOT / "CONTRIBUTING.md", "yaml")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_blocks(page):
    namespace = {"__name__": page.stem}
    with torch.random.fork_rng():
        for number, block in enumerate(blocks(page, "python"), start=1):
            exec(compile(block, f"{name(page)}, Python block {number}", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_python_blocks_run_in_order(page, project):
    run_blocks(page)


def test_readme_samples_what_it_says(project):
    result = run_blocks(ROOT / "README.md")
    assert result["images"].dtype == torch.uint8
    assert result["images"].shape == result["sevens"].shape == (16, 1, 8, 8)

    data = Moons().sample(2000, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(2))

    def distance(points):
        return float(torch.cdist(points, data).min(dim=1).values.mean())

    assert distance(result["samples"]) < 0.4 * distance(noise)


def test_licence_comes_first():
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line]
    assert lines[:2] == ["# flowgen", "Licence: Apache-2.0."]


def understood(words):
    """Check one command line as far as the program does before it builds anything."""
    if words[:3] == ["python", "-m", "flowgen"]:
        words = ["flowgen", *words[3:]]
    if words[0] == "torchrun":
        words = words[words.index("-m") + 1 :]
    program, rest = Path(words[0]).name, words[1:]
    if program == "python":
        return (ROOT / rest[0]).is_file()
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
        return set(rest) <= set(targets)
    assert program == "flowgen", f"no test knows what '{' '.join(words)}' does"
    verb = verb_named(rest[0])
    if verb is None or "--help" in rest:
        return main(rest) == 0
    if "distance=log_cosh" in rest and "--config-dir" not in rest:
        rest = [*rest, "--config-dir", "my_configs"]  # stands for a file inside flowgen's own tree
    line = parse_flags(rest[1:], verb.config_name, config_dir())
    check = OverrideCheck(line.tree, line.config_name, line.multirun, line.runs, verb.filled_in)
    return check(line.overrides) >= 1


def first_shown():
    """Pages with their commands, each where it stands first."""
    seen = set()
    for page in PAGES:
        new = {tuple(words): words for words in commands(page) if tuple(words) not in seen}
        seen |= set(new)
        if new:
            yield page, list(new.values())


SHOWN = dict(first_shown())


@pytest.mark.parametrize("page", SHOWN, ids=name)
def test_commands_are_understood(page, project):
    for words in SHOWN[page]:
        try:
            assert understood(words)
        except ValueError as error:
            raise AssertionError(f"{name(page)}: {' '.join(words)}: {error}") from error


@pytest.mark.parametrize("page", [page for page in PAGES if sessions(page)], ids=name)
def test_bad_input_is_answered_as_shown(page, project, capsys):
    for command, answer in sessions(page):
        assert main(command.split()[1:]) == 2
        told = capsys.readouterr().err.strip()
        assert re.fullmatch(re.escape(answer).replace(r"\.\.\.", ".*"), told), told


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_choices_in_the_prose_exist(page):
    groups = ConfigTree((config_dir(),)).groups()
    for code in inline_code(page):
        for group, choice in re.findall(r"(?<![\w.@])(\w+)(?:@[\w.]+)?=(\w+)", code):
            known = groups.get(group, [choice]) + (["log_cosh"] if group == "distance" else [])
            assert choice in known, f"{group}={choice}"


@pytest.mark.parametrize(
    ("group", "page"),
    [
        ("path", "paths"),
        ("coupling", "couplings"),
        ("sampler", "sampling"),
        ("grid", "sampling"),
        ("model", "models"),
        ("prediction", "conventions"),
        ("data", "data"),
        ("time_sampler", "objectives"),
        ("weighting", "objectives"),
        ("distance", "objectives"),
    ],
)
def test_every_choice_is_described(group, page):
    choices = set(ConfigTree((config_dir(),)).groups()[group]) - {"stored"}
    pieces = " ".join(inline_code(ROOT / "docs" / f"{page}.md"))
    assert choices - set(re.findall(r"\w+", pieces)) == set()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_relative_links_lead_somewhere(page):
    missing = [target for target in links(page) if not (page.parent / target).exists()]
    assert missing == []


def test_citation_names_the_version_of_the_package():
    import yaml

    import flowgen

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == "flowgen"
    assert citation["license"] == "Apache-2.0"
    assert citation["authors"] == [{"name": "The flowgen authors"}]
    assert citation["version"] == flowgen.__version__
    assert f"## {flowgen.__version__}" in (ROOT / "CHANGELOG.md").read_text()
