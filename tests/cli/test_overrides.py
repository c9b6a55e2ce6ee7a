import pytest

from flowgen.cli import UsageError, main
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.overrides import OverrideCheck

BAD = {
    "path=trgi": "path has no choice 'trgi'; did you mean 'trig'? Choices: linear, trig, vp",
    "path=qqqqqq": "path has no choice 'qqqqqq'. Choices: linear, trig, vp",
    "path=[trig,trgi]": "path has no choice 'trgi'",
    "path=null": "to leave path out write ~path",
    "+experiment=digits": "experiment is there already: write experiment=digits",
    "pth=trig": "no setting 'pth'; did you mean 'path'?",
    "experimnt=digits": "no setting 'experimnt'; did you mean 'experiment'?",
    "foo/bar=3": "no config group 'foo/bar'. Groups: experiment, optimizer",
    "trainer.max_stpes=3": "no setting 'trainer.max_stpes'; did you mean 'trainer.max_steps'?",
    "lr=1e-3": "no setting 'lr'; did you mean 'optimizer.lr'?",
    "optimizer.learning_rate=1": "did you mean 'optimizer.lr'?",
    "steps=3": "did you mean 'sampler.num_steps'?",
    "max_steps=3": "did you mean 'trainer.max_steps'?",
    "path.schedule.power=3": "it belongs to path=trig: add path=trig",
    "sampler.rtoll=3": "did you mean 'sampler.rtol' (with sampler=dopri5)?",
    "network.sigma_min=3": "'network.sigma_min' is 'path.sigma_min': set that",
    "zzzzzz=3": "no setting 'zzzzzz'; see all with: flowgen config show train",
    "channels.5=3": "no setting 'channels.5'",
    "name.inner=3": "no setting 'name.inner'",
    "+seed=3": "'seed' exists already: write seed=3",
    "facts={shap: 3}": "no setting 'facts.shap'; did you mean 'facts.shape'?",
    "seed": "'seed' is not an override: write key=value, such as trainer.max_steps=100",
    "trig": "'trig' is not an override: write key=value, such as path=trig",
    "a=[1,2": "cannot read 'a=[1,2'",
    "channels[1]=7": "cannot read 'channels[1]=7': a character cannot stand there\n",
    "name=a=b": "to take the value as it is, write 'name=\"a=b\"'",
    "seed=1,2": "seed=1,2 lists several values: add --multirun to run each, or write seed=[1,2]",
    "seed=abc": "seed expects an integer, got 'abc'",
    "width=abc": "width expects an integer, got 'abc'",
    "channels=3": "channels expects a list, got 3; write channels=[3]",
    "mode={a: 1}": "no setting 'mode.a'",
    "network=3": "network is a section: set its parts, such as network.sigma_min=..., got 3",
    "loss_space=noise": "loss_space takes a choice by its group: write prediction@loss_space=noise",
    "hydra.foo=3": "Could not override 'hydra.foo'",
    "hydra/launcher=foo": "Could not find 'hydra/launcher/foo'",
    "prediction@lossspace=noise": "Could not override 'prediction@lossspace'",
    "--mutlirun": "unrecognized arguments: --mutlirun; did you mean '--multirun'?",
    "--cfg": "argument --cfg/-c: expected one argument",
    "--resolve": "--resolve goes with --cfg job",
    "--config-dir=/nowhere/at/all": "no config folder at /nowhere/at/all",
    "--config-name=other": "no config 'other.yaml' in",
}

GROUPS = ["+path@other=trig", "~experiment", "experiment=digits", "prediction@loss_space=noise"]

GOOD = [
    "seed=3",
    "seed=null",
    "clip=2",
    "clip=inf",
    "compile=true",
    "channels=[1,2,3]",
    "channels=[]",
    "channels.0=7",
    "optimizer.betas=[0,1]",
    "trainer.devices=auto",
    "trainer.devices=[0,1]",
    "trainer.precision=32",
    "mode=3",
    "mode=[1,2]",
    "name=anything",
    "name='a=b'",
    "name=${seed}",
    "seed=${clip}",
    "width=3",
    "network=null",
    "network='${prediction}'",
    "facts.shape=[1,8,8]",
    "facts={shape: [1]}",
    "+new=3",
    "++seed=abc",
    "++new.a=1",
    "~seed",
    "~seed=0",
    "path._target_=foo",
    "hydra.verbose=false",
]


@pytest.mark.parametrize("word", BAD)
def test_bad_override_is_one_line_and_nothing_runs(word, tree, verb, capsys, empty_cwd):
    assert main(["train", word], config_dir=tree) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert captured.err.startswith("error: ")
    assert BAD[word] in captured.err
    assert verb.configs == []


@pytest.mark.parametrize("word", GROUPS)
def test_good_choice_passes(word, tree):
    assert OverrideCheck(ConfigTree((tree,)), "train", filled_in=("facts",))([word]) == 1


def test_good_values_pass(tree):
    assert OverrideCheck(ConfigTree((tree,)), "train", filled_in=("facts",))(GOOD) == 1


def test_the_last_of_repeated_overrides_is_checked_as_well(tree):
    check = OverrideCheck(ConfigTree((tree,)), "train", filled_in=("facts",))
    with pytest.raises(UsageError, match="^seed expects an integer, got 'x'$"):
        check(["seed=3", "seed=x"])


def test_settings_of_a_chosen_group_and_of_additions_are_known(tree):
    check = OverrideCheck(ConfigTree((tree,)), "train", filled_in=("facts",))
    check(["path=trig", "path.schedule.power=3"])
    check(["experiment=digits", "path.schedule.power=3"])
    check(["+new.a=3", "new.a=4"])
    check(["+new={a: 1}", "new.b=4"])
    with pytest.raises(UsageError, match=r"path\.schedule\.power expects an integer"):
        check(["path=trig", "path.schedule.power=high"])


def test_required_settings(tree):
    check = OverrideCheck(ConfigTree((tree,)), "sample")
    with pytest.raises(UsageError, match=r"^checkpoint=<run folder or file> is required$"):
        check(["num_samples=3"])
    check(["checkpoint=runs/a"])
    OverrideCheck(ConfigTree((tree,)), "sample", complete=False)([])
    with pytest.raises(UsageError, match=r"^facts\.shape=<value> is required$"):
        OverrideCheck(ConfigTree((tree,)), "train")([])


def test_group_of_another_verb_is_refused(tree):
    check = OverrideCheck(ConfigTree((tree,)), "sample")
    with pytest.raises(UsageError, match="optimizer is no part of 'sample'. Groups: path, sampler"):
        check(["checkpoint=a", "optimizer=adam"])
    check(["checkpoint=a", "+optimizer=adam"])


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        (["seed=1,2,3"], 3),
        (["seed=range(4)", "path=linear,trig"], 8),
        (["seed=choice(1,2)"], 2),
        (["path=glob(*)"], 3),
        (["path=glob(t*)", "seed=1"], 1),
        (["name='a','b'"], 2),
        (["clip=interval(0,1)"], 1),
        (["channels=[1],[2,3]"], 2),
    ],
)
def test_every_value_of_a_sweep_is_counted(words, jobs, tree):
    check = OverrideCheck(ConfigTree((tree,)), "train", multirun=True, filled_in=("facts",))
    assert check(words) == jobs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1,x"], "seed expects an integer, got 'x'"),
        (["path=linear,trgi"], "path has no choice 'trgi'"),
        (["path=trig,linear", "path.schedule.power=3"], "it belongs to path=trig"),
        (["channels=[1],['a']"], "channels.0 expects an integer, got 'a'"),
    ],
)
def test_every_value_of_a_sweep_is_checked(words, message, tree):
    check = OverrideCheck(ConfigTree((tree,)), "train", multirun=True, filled_in=("facts",))
    with pytest.raises(UsageError, match="^.*" + message.replace("[", r"\[")):
        check(words)
