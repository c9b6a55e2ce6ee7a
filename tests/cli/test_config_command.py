import pytest
import yaml

from flowgen.cli import main

BAD = {
    "shw": "no command 'config shw'; did you mean 'show'?",
    "show smaple": "no verb 'smaple'; did you mean 'sample'?",
    "show qqqqqq": "no verb 'qqqqqq'; verbs: train, distill, sample, edit, invert, evaluate",
    "show sede=3": "no setting 'sede'; did you mean 'seed'?",
    "show seed=a": "seed expects an integer, got 'a'",
    "groups pth": "no config group 'pth'; did you mean 'path'?",
    "groups qqqqqq": "no config group 'qqqqqq'. Groups: experiment",
}


def show(capsys, tree, *words):
    assert main(["config", "show", *words], config_dir=tree) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_show_resolves_what_it_can(tree, capsys, empty_cwd):
    config = show(capsys, tree, "path=trig", "seed=4", "name=${nowhere}")
    assert config["path"]["schedule"] == {"power": 2}
    assert config["network"] == config["path"]
    assert config["width"] == config["trainer"]["max_steps"]
    assert config["channels"] == [32, 64]
    assert config["seed"] == 4
    assert config["facts"]["shape"] == "???"
    assert config["name"] == "${nowhere}"
    assert "hydra" not in config


def test_show_takes_a_verb_and_does_not_ask_for_required_settings(tree, capsys):
    assert show(capsys, tree, "sample", "num_samples=3") == {
        "sampler": {"_target_": "builtins.dict", "num_steps": 20},
        "checkpoint": "???",
        "num_samples": 3,
        "guidance": {"scale": 1.0},
    }


def test_show_knows_the_choices_made(tree, capsys):
    config = show(capsys, tree, "name=${hydra:runtime.choices.path}", "experiment=digits")
    assert config["name"] == "trig"


def test_groups_lists_choices_and_descriptions(tree, capsys):
    assert main(["config", "groups"], config_dir=tree) == 0
    assert "path        linear, trig, vp" in capsys.readouterr().out
    assert main(["config", "groups", "path"], config_dir=tree) == 0
    assert capsys.readouterr().out.splitlines() == [
        "  path=linear  The straight path.",
        "  path=trig    Quarter circle.",
        "  path=vp      Variance preserving.",
    ]


@pytest.mark.parametrize("line", BAD)
def test_bad_words_are_one_line(line, tree, capsys, empty_cwd):
    assert main(["config", *line.split()], config_dir=tree) == 2
    err = capsys.readouterr().err
    assert BAD[line] in err
    assert err.count("\n") == 1
