import subprocess
import sys
from pathlib import Path

import pytest

from flowgen import __version__
from flowgen.cli import UsageError, config_dir, main
from flowgen.cli.commands import COMMANDS
from flowgen.cli.verbs import VERBS

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "lightning", "hydra", "omegaconf", "matplotlib", "numpy")


def run_python(*words, cwd):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_overview_names_every_verb_with_an_example(words, capsys, empty_cwd):
    assert main(words) == 0
    out = capsys.readouterr().out
    for part in ("flowgen train experiment=digits", "flowgen sample checkpoint=", "evaluate"):
        assert part in out
    assert "config show" in out
    assert "docs" in out


@pytest.mark.parametrize("words", [["train", "--help"], ["help", "train"], ["train", "a=1", "-h"]])
def test_verb_help_lists_groups_choices_and_examples(words, tree, capsys, empty_cwd):
    assert main(words, config_dir=tree) == 0
    out = capsys.readouterr().out
    assert "path        linear, trig, vp" in out
    assert "trainer.max_steps=2000" in out
    assert "flowgen config show train" in out


def test_verb_help_lists_only_groups_the_verb_draws_on(tree, capsys):
    assert main(["sample", "--help"], config_dir=tree) == 0
    out = capsys.readouterr().out
    assert "dopri5, heun" in out
    assert "cpu, ddp" not in out


def test_help_of_config(capsys):
    for words in (["help", "config"], ["config"], ["config", "show", "--help"]):
        assert main(words) == 0
        assert "flowgen config groups" in capsys.readouterr().out


def test_underscore_in_a_verb_stands_for_a_hyphen(capsys):
    told = []
    for verb in ("fit-sampler", "fit_sampler"):
        for words in ([verb, "--help"], ["help", verb], ["config", "show", verb]):
            assert main(words) == 0
            told.append(capsys.readouterr().out)
    assert told[:3] == told[3:]
    assert told[0].startswith("usage: flowgen fit-sampler ")
    assert "teacher_steps" in told[2]


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"]])
def test_version(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == f"flowgen {__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tarin"], "error: no verb 'tarin'; did you mean 'train'?\n"),
        (["help", "smaple"], "error: no verb 'smaple'; did you mean 'sample'?\n"),
        (["fit-smapler"], "error: no verb 'fit-smapler'; did you mean 'fit-sampler'?\n"),
        (["data", "check"], "error: no verb 'data check'; did you mean 'check-data'?\n"),
        (["check", "data"], "error: no verb 'check data'; did you mean 'check-data'?\n"),
        (["help", "data", "check"], "error: no verb 'data check'; did you mean 'check-data'?\n"),
        (["tarin", "data=moons"], "error: no verb 'tarin'; did you mean 'train'?\n"),
        (["x7q"], f"error: no verb 'x7q'; verbs: {', '.join([*VERBS, *COMMANDS, 'help'])}\n"),
        (["seed=3"], "error: 'seed=3' comes before the verb: write flowgen train seed=3\n"),
    ],
)
def test_unknown_verb_is_one_line(words, expected, capsys, empty_cwd):
    assert main(words) == 2
    assert capsys.readouterr().err == expected


def test_help_and_config_show_import_nothing_heavy(tree, tmp_path):
    code = f"""
import sys
from pathlib import Path
from flowgen.cli.main import main
folder = Path({str(tree)!r})
loaded = lambda names: [name for name in names if name in sys.modules]
assert main(["--help"]) == 0 and main(["train", "--help"], config_dir=folder) == 0
assert main(["tarin"]) == 2
assert not loaded({HEAVY!r}), loaded({HEAVY!r})
assert main(["config", "show", "path=trig"], config_dir=folder) == 0
assert main(["train", "sede=3"], config_dir=folder) == 2
assert main(["train", "--cfg", "job"], config_dir=folder) == 0
assert not loaded(("torch", "lightning", "numpy"))
"""
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "error: no verb 'tarin'; did you mean 'train'?\n"
        "error: no setting 'sede'; did you mean 'seed'?\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_module_and_scripts_are_the_same_program(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    main(["train", "--help"])
    expected = capsys.readouterr().out
    done = run_python("-m", "flowgen", "train", "--help", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, expected)
    for verb in ("train", "sample", "evaluate"):
        done = run_python(str(ROOT / "scripts" / f"{verb}.py"), "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: flowgen {verb} ")


def test_bad_input_in_a_process_is_code_2_and_one_line(tmp_path):
    done = run_python(str(ROOT / "scripts" / "sample.py"), "sampler.num_stpes", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: 'sampler.num_stpes' is not an override")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_config_tree_of_a_wheel_wins_over_the_checkout(tmp_path):
    package = tmp_path / "src" / "flowgen"
    package.mkdir(parents=True)
    with pytest.raises(UsageError, match="reinstall"):
        config_dir(package)
    (tmp_path / "configs").mkdir()
    assert config_dir(package) == tmp_path / "configs"
    (package / "configs").mkdir()
    assert config_dir(package) == package / "configs"


def test_config_tree_of_this_checkout_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (config_dir() / "train.yaml").is_file()
