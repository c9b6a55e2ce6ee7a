"""Fuzz the reader and the builder: what was written, or one line; never another exception."""

import io
import string
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import flowgen
from flowgen.core import InputError
from flowgen.pipeline import build, check_targets, load
from flowgen.pipeline.allowed import PIPELINE, resolve
from flowgen.pipeline.checkpoint import read_training_checkpoint
from flowgen.pipeline.stored import build_stored
from forged import archive, checkpoint, exported
from small import vector_config

FUZZ = settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def one_line(error):
    """Whether an error is told in one printable line."""
    return str(error).isprintable()


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Bytes and weights of one honest file of each kind."""
    folder = tmp_path_factory.mktemp("honest")
    checkpoint(folder / "a.ckpt")
    exported(folder / "a.safetensors")
    files = {suffix: folder / f"a{suffix}" for suffix in (".ckpt", ".safetensors")}
    return {
        suffix: (path.read_bytes(), load(path).field.state_dict()) for suffix, path in files.items()
    }


@st.composite
def edits(draw):
    """A few edits of bytes: where, as a fraction of the length, and what to write there."""
    place = st.floats(0, 1, exclude_max=True) | st.floats(0.93, 1, exclude_max=True)
    single = st.tuples(st.just("set"), place, st.binary(min_size=1, max_size=4))
    shift = st.tuples(st.sampled_from(("cut", "insert", "end")), place, st.binary(max_size=8))
    return draw(st.lists(single | shift, min_size=1, max_size=3))


def edited(data, changes):
    for kind, place, value in changes:
        at = int(place * len(data))
        if kind == "set":
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "cut":
            data = data[:at] + data[at + len(value) :]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        else:
            data = data[:at]
    return data


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@FUZZ
@given(changes=edits())
@example(changes=[("set", 0.9845104977990425, b"\xb1\xd5")])  # a weight marked as a folder
def test_a_changed_file_loads_bit_equal_or_is_refused(honest, tmp_path, suffix, changes):
    data, weights = honest[suffix]
    path = tmp_path / f"changed{suffix}"
    path.write_bytes(edited(data, changes))
    try:
        loaded = load(path)
    except InputError as error:
        assert one_line(error)  # noqa: PT017
        return
    for name, value in loaded.field.state_dict().items():
        assert torch.equal(value, weights[name])


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_no_single_flipped_bit_changes_a_weight(honest, tmp_path, suffix):
    data, weights = honest[suffix]
    path = tmp_path / f"flipped{suffix}"
    # Where layout and description are, every 97th byte; a stride that visits all bits in turn.
    for i, position in enumerate(range(0, len(data), 97)):
        changed = bytearray(data)
        changed[position] ^= 1 << (i % 8)
        path.write_bytes(bytes(changed))
        try:
            loaded = load(path).field.state_dict()
        except InputError:
            continue
        assert all(torch.equal(value, weights[name]) for name, value in loaded.items())


@FUZZ
@given(changes=edits())
def test_a_changed_pickle_with_honest_checksums_is_read_or_refused(honest, tmp_path, changes):
    with zipfile.ZipFile(io.BytesIO(honest[".ckpt"][0])) as file:
        entries = {entry.split("/", 1)[1]: file.read(entry) for entry in file.namelist()}
    data = edited(entries.pop("data.pkl"), changes)
    records = {name: value for name, value in entries.items() if name.startswith("data/")}
    path = tmp_path / "changed.ckpt"
    archive(path, data, records)
    for reader in (read_training_checkpoint, load):
        try:
            reader(path)
        except InputError as error:
            assert one_line(error)  # noqa: PT017


NAMES = st.sampled_from(
    [
        "os.system",
        "builtins.print",
        "flowgen.load",
        "flowgen.data.Gaussian",
        "flowgen.data.ImageFolder",
        "flowgen.data.Pixels",
        "flowgen.models.MLP",
        "flowgen.models.DiT",
        "flowgen.paths.AffinePath",
        "flowgen.paths.Trig",
        "flowgen.integrators.Sampler",
        "flowgen.pipeline.Pipeline",
        "torch.nn.Linear",
        "torch.nn.Sequential",
        "torch.nn.modules.module.torch.load",
        "torch.save",
    ]
) | st.text(string.ascii_letters + "._\u0435 ", max_size=30)
KEYS = st.sampled_from(
    ["_target_", "_partial_", "_args_", "_recursive_", "_convert_", "_mode_"]
    + ["shape", "network", "schedule", "path", "width", "num_classes", "in_features", "x"]
) | st.text(max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["${oc.env:HOME}", "???", "all", b"bytes", 3 + 4j, object])
)


def nodes(inner):
    plain = st.dictionaries(KEYS | st.integers(), inner, max_size=4)
    aimed = st.builds(lambda name, more: more | {"_target_": name}, NAMES, plain)
    return st.lists(inner, max_size=3) | plain | aimed


CONFIGS = st.recursive(SCALARS | st.lists(st.integers(-1, 9), max_size=3), nodes, max_leaves=12)


def allowed_objects(value):
    """Whether everything built is plain, or of a class of the allow-list."""
    if isinstance(value, dict):
        return all(map(allowed_objects, value.values()))
    if isinstance(value, list):
        return all(map(allowed_objects, value))
    kind = value.func if hasattr(value, "func") else type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return kind.__module__ == "builtins" or resolve(name) is kind


@FUZZ
@given(config=CONFIGS)
@example(config={"_target_": "flowgen.data.Gaussian", "shape": [2], "_partial_": "yes"})
@example(config={"_target_": "flowgen.data.Gaussian", "shape": [2], "_recursive_": 0})
@example(config={"_target_": "torch.nn.Linear", "_args_": {"a": 1}})
@example(config={"_target_": "torch.nn.Linear", "in_features": -1, "out_features": None})
def test_a_random_config_builds_allowed_classes_or_is_refused(config):
    try:
        check_targets(config)
        built = build_stored(config)
    except InputError as error:
        assert one_line(error)  # noqa: PT017
        return
    assert allowed_objects(built)


@FUZZ
@given(place=st.data(), value=CONFIGS)
def test_a_pipeline_with_one_value_replaced_builds_or_is_refused(place, value):
    config = vector_config()
    node = config
    while True:
        key = place.draw(st.sampled_from(sorted(node)))
        if not isinstance(node[key], dict) or place.draw(st.booleans()):
            break
        node = node[key]
    node[key] = value
    try:
        built = build(config)
    except InputError as error:
        assert one_line(error)  # noqa: PT017
        return
    assert allowed_objects(built)


@FUZZ
@given(name=NAMES)
def test_a_resolved_name_is_a_public_class_of_an_allowed_package(name):
    found = resolve(name)
    assert found is None or (
        isinstance(found, type) and found.__module__.startswith(PIPELINE) and found is not flowgen
    )
