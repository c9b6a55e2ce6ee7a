"""Objects from plain configs: only from the allow-list, and refused in one line otherwise."""

import re

import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import Trig
from flowgen.pipeline import build, check_targets
from flowgen.pipeline.allowed import DATA
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"std": "1"}, "source.std must be float, got str '1'"),
        ({"std": True}, "source.std must be float, got bool True"),
        ({"std": None}, "source.std must be float, got nothing"),
        ({"shape": 2}, "source.shape must be"),
        ({"shape": [2.5]}, "source.shape must be"),
        ({"shape": {"a": 1}}, "source.shape must be"),
        ({"shape": []}, "source: shape must have axes"),
        ({"size": 3}, "source: Gaussian: got an unexpected keyword argument 'size'"),
        ({"_partial_": 1}, "_partial_ must be true or false"),
        ({"_args_": {"a": 1}}, "_args_ a list"),
        ({"_recursive_": False}, "a stored config can have _recursive_=True only"),
        ({"_convert_": "object"}, "a stored config can have _convert_=all only"),
        ({"shape": [1 << 13, 1 << 13]}, "samples of more than 16777216 numbers"),
        ({"std": b"1"}, "source.std: must be plain data, got bytes"),
        ({"std": "x" * 20_000}, "source.std: a text of 20000 characters"),
    ],
)
def test_arguments_are_compared_with_the_signature(changes, said):
    config = vector_config()
    config["source"] |= changes
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        build(config)
    assert "\n" not in str(caught.value)


def test_what_hydra_would_do_alike_is_allowed():
    config = vector_config()
    config["source"] |= {"_convert_": "all", "_recursive_": True, "_partial_": False}
    config["sampler"]["_args_"] = []
    assert build(config).source.shape == (2,)
    assert build({"_target_": "torch.nn.Linear", "_args_": [2, 3]}).out_features == 3


def test_large_seeds_are_no_bomb():
    check_targets({"seed": 2**63, "data": {"seed": 20_240_101}})
    with pytest.raises(InputError, match="larger than"):
        check_targets({"steps": 2**63})


def test_data_sets_are_for_the_purpose_of_data_only():
    data = {"_target_": "flowgen.data.Digits"}
    with pytest.raises(InputError, match=r"target 'flowgen\.data\.Digits' is not a class"):
        build(data)
    assert build(data, allowed=DATA).name == "digits"
