"""Random override strings: a config, or an answer in one line; never a traceback."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowgen.cli.compose import composed
from flowgen.cli.config_tree import ConfigTree
from flowgen.cli.errors import message_for
from flowgen.cli.overrides import OverrideCheck

FUZZ = settings(
    deadline=None,
    max_examples=120,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

KEYS = st.sampled_from(
    ["seed", "clip", "name", "mode", "channels", "channels.0", "width", "network", "facts.shape"]
    + ["path", "sampler", "optimizer", "experiment", "path.sigma_min", "optimizer.betas.1"]
    + ["trainer.max_steps", "prediction@loss_space", "hydra.run.dir", "hydra", "a/b", "x.y.z"]
) | st.text(max_size=10)
VALUES = st.sampled_from(
    ["3", "null", "trig", "digits", "[1,2]", "{a:1}", "1,2", "range(1,4)", "choice(1,2)"]
    + ["glob(*)", "interval(0,1)", "${seed}", "${oc.env:HOME}", "${nothing}", "${", "???", "''"]
    + ["${hydra:job.name}", "'a", "\\", "1e999", "nan", "0x10", "[[[", "{a:{b:[1,{}]}}"]
    + ["${oc.create:{a:1}}", "sort(2,1)", "tag(x,1)", "shuffle(1,2)", "int(a)", "json_str({a:1})"]
) | st.text(max_size=12)
SIGNS = st.sampled_from(["", "", "", "+", "++", "~", "+~"])
FITTING = st.sampled_from(
    ["seed=3", "clip=1e-3", "name=a b", "path=trig", "path=vp", "experiment=digits", "~sampler"]
    + ["channels=[1,2]", "mode=fast", "++x.y=[1,{a: 2}]", "+x=${seed}", "trainer.max_steps=9"]
)
WORDS = st.one_of(
    FITTING,
    FITTING,
    st.builds("{}{}={}".format, SIGNS, KEYS, VALUES),
    st.builds("{}{}".format, SIGNS, KEYS),
    st.text(max_size=20),
)


def answer(tree, words, multirun):
    """The number of jobs, or the line that is told; composes as a single run would."""
    try:
        config_tree = ConfigTree((tree,))
        jobs = OverrideCheck(config_tree, "train", multirun, filled_in=("facts",))(words)
        if not multirun:
            with composed(config_tree, "train", words) as config:
                str(config)
    except Exception as error:  # noqa: BLE001 - whatever is raised must have a line
        line = message_for(error)
        if line is None:
            raise
        return line
    return jobs


@pytest.mark.parametrize("multirun", [False, True])
@FUZZ
@given(words=st.lists(WORDS, min_size=1, max_size=3))
@example(words=["=3"])
@example(words=["=null"])
@example(words=["~channels.0"])
@example(words=["~path=3"])
@example(words=[""])
@example(words=["~"])
@example(words=["seed=${"])
@example(words=["path=${seed}"])
@example(words=["seed=\x00"])
def test_random_overrides_make_a_config_or_one_line(tree, words, multirun):
    told = answer(tree, words, multirun)
    assert told if isinstance(told, int) else told.strip() and "\n" not in told
