"""Objects from plain configs: only from the allow-list, and refused in one line otherwise."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import Trig
from flowgen.pipeline import build, check_targets
from small import vector_config


def test_build_returns_the_object_and_its_parts():
    path = build(
        {"_target_": "flowgen.paths.AffinePath", "schedule": {"_target_": "flowgen.paths.Trig"}}
    )
    assert isinstance(path.schedule, Trig)


def test_lists_and_partials_are_built():
    made = build({"_target_": "torch.nn.LeakyReLU", "_partial_": True, "negative_slope": 0.5})
    assert made()(torch.tensor(-2.0)) == -1.0
    mixture = build(
        {"_target_": "flowgen.data.Mixture", "means": [[0.0, 1.0], [2.0, 3.0]], "stds": 0.5}
    )
    assert mixture.shape == (2,)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "flowgen.cli.train.time.sleep",
        "flowgen.pipeline.checkpoint.os.remove",
        "flowgen.pipeline.build.build.__globals__",
        "flowgenx.Model",
        "flowgen.cli.main.main",
        "flowgen.pipeline.save",
        "flowgen.training.FlowModule",
        "torch.load",
        "torch.nn.modules.module.torch.load",
        "torch.hub.load",
        "flowgen.no_such_thing",
        "flowgen",
        "",
    ],
)
@pytest.mark.parametrize("place", ["top", "deep"])
def test_targets_outside_the_allow_list_are_refused_before_anything_is_called(target, place):
    node = {"_target_": target, "_args_": ["echo no"]}
    if place == "deep":
        node = {"_target_": "flowgen.paths.AffinePath", "schedule": [{"x": node}]}
    with pytest.raises(InputError, match="is not a class of flowgen") as caught:
        build(node)
    assert "\n" not in str(caught.value)


def test_trusted_code_is_built():
    assert build({"_target_": "fractions.Fraction", "_args_": [1, 2]}, trust_code=True) == 0.5


def test_check_names_the_place():
    with pytest.raises(InputError, match=r"model\.layers\[1\]: target 'os\.system'"):
        check_targets({"model": {"layers": [{}, {"_target_": "os.system"}]}})


def test_rejected_arguments_are_told_in_one_line():
    with pytest.raises(InputError, match="cannot be built") as caught:
        build({"_target_": "flowgen.paths.Trig", "no_such_argument": 1})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "${oc.create:{_target_: flowgen.cli.main.main}}",
        "${oc.env:HOME}",
        ["x", {"deep": "a ${other} b"}],
    ],
)
def test_a_value_that_is_resolved_after_the_check_is_refused(value):
    with pytest.raises(InputError, match="refers to another value"):
        build(vector_config() | {"conditioner": value})
