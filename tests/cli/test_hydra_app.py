import os
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

from flowgen.cli import job_number, main
from flowgen.core import InputError


def test_verb_runs_with_its_config_and_leaves_nothing_behind(tree, verb, capsys, empty_cwd):
    words = ["train", "path=trig", "path.schedule.power=3", "seed=5", "+extra=1"]
    assert main(words, config_dir=tree) == 0
    (config,) = verb.configs
    assert (config.path.schedule.power, config.seed, config.extra) == (3, 5, 1)
    assert "hydra" not in config
    assert capsys.readouterr() == ("", "")
    assert not HydraConfig.initialized()
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize("words", [["--cfg", "job"], ["--info", "defaults"]])
def test_a_look_at_the_config_leaves_nothing_behind(words, tree, verb, capsys, empty_cwd):
    assert main(["train", *words], config_dir=tree) == 0
    assert capsys.readouterr().out
    assert verb.configs == []
    assert not HydraConfig.initialized()


def test_flags_may_stand_anywhere(tree, verb, capsys, empty_cwd):
    assert main(["train", "seed=1,2", "-m", "clip=3"], config_dir=tree) == 0
    assert [config.seed for config in verb.configs] == [1, 2]
    assert [config.clip for config in verb.configs] == [3, 3]


def test_sweep_numbers_its_jobs_and_announces_them(tree, verb, capsys, empty_cwd):
    numbers = []
    verb.action = lambda config: numbers.append(job_number())
    assert main(["train", "-m", "seed=1", "path=linear,trig"], config_dir=tree) == 0
    assert numbers == [0, 1]
    assert capsys.readouterr().out.splitlines() == [
        "--- job 1 of 2: seed=1 path=linear",
        "--- job 2 of 2: seed=1 path=trig",
    ]


def test_single_run_has_no_job_number(tree, verb):
    numbers = []
    verb.action = lambda config: numbers.append(job_number())
    assert main(["train"], config_dir=tree) == 0
    assert numbers == [None]
    assert job_number() is None


def test_bad_input_in_a_job_stops_the_sweep_with_one_line(tree, verb, capsys, empty_cwd):
    def refuse(config):
        if config.seed == 2:
            raise InputError("seed must not be 2")

    verb.action = refuse
    assert main(["train", "-m", "seed=2,3"], config_dir=tree) == 2
    assert [config.seed for config in verb.configs] == [2]
    assert capsys.readouterr().err == "error: seed must not be 2\n"


def test_fault_in_a_verb_is_a_traceback_without_hydra_text(tree, verb, capsys):
    def fail(config):
        raise RuntimeError("broken inside")

    verb.action = fail
    assert main(["train"], config_dir=tree) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.rstrip().endswith("RuntimeError: broken inside")
    assert "HYDRA_FULL_ERROR" not in err
    assert "Error executing job" not in err


def test_interrupt_in_a_verb(tree, verb, capsys, empty_cwd):
    def interrupt(config):
        raise KeyboardInterrupt

    verb.action = interrupt
    assert main(["train"], config_dir=tree) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("start", [["flowgen", "train"], ["scripts/train.py"]])
def test_a_job_can_be_relaunched_from_sys_argv(start, tree, verb, monkeypatch):
    """Lightning starts the other processes of DDP with ``sys.argv``: it must be this job alone."""
    seen = []
    verb.action = lambda config: seen.append(list(sys.argv))
    words = ["seed=choice(1)", "-m"]
    monkeypatch.setattr(sys, "argv", [*start, *words])
    assert main(["train", *words], config_dir=tree) == 0
    assert seen == [[*start, "seed=1"]]
    assert sys.argv == [*start, *words]

    seen.clear()
    monkeypatch.setattr(sys, "argv", [*start, "seed=4"])
    assert main(["train", "seed=4"], config_dir=tree) == 0
    assert seen == [[*start, "seed=4"]]


def test_cfg_and_info_show_without_running(tree, verb, capsys, empty_cwd):
    assert main(["train", "--cfg", "job", "--resolve", "-p", "trainer"], config_dir=tree) == 0
    assert "max_steps: 100" in capsys.readouterr().out
    assert main(["sample", "--info", "defaults"], config_dir=tree) == 0
    assert "sampler/heun" in capsys.readouterr().out
    assert main(["train", "--hydra-help"], config_dir=tree) == 0
    assert "Hydra" in capsys.readouterr().out
    assert verb.configs == []
    assert main(["train", "--cfg", "job", "--multirun"], config_dir=tree) == 2


def test_own_config_folder_adds_choices(tree, verb, tmp_path, capsys):
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "mine.yaml").write_text("_target_: builtins.dict\nspeed: 1\n")
    words = ["train", f"--config-dir={tmp_path}", "path=mine", "path.speed=2"]
    assert main(words, config_dir=tree) == 0
    assert verb.configs[0].path.speed == 2
    assert main(["train", "path=mine"], config_dir=tree) == 2


def test_sweep_folder_is_kept_where_the_user_wants_it(tree, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", "seed=1,2", "hydra.sweep.dir=here"], config_dir=tree) == 0
    assert Path("here/multirun.yaml").is_file()
