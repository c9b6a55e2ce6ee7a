"""Weights in shards: two processes compute what one does, and their files are the same."""

import pytest
import torch

import flowgen
from flowgen.core import InputError
from flowgen.pipeline.checkpoint import read_training_checkpoint
from flowgen.training import check_shardable
from fsdp2_runs import last, losses, module, train, two_processes
from runs import flow
from small import vector_config
from two_processes import in_two_processes


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fsdp2")
    train(folder / "alone", 4)
    train(folder / "half_alone", 2)
    train(folder / "bf16_alone", 2, precision="bf16-mixed")
    ends = in_two_processes(two_processes, folder)
    train(folder / "one_shard", 4, strategy="fsdp2")
    torch.distributed.destroy_process_group()
    train(folder / "taken_back", 4, resume=folder / "half")
    return folder, ends


def assert_close(one, other, atol, where=""):
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_close(one[key], other[key], atol, f"{where}.{key}")
    elif isinstance(one, torch.Tensor):
        assert (one - other).abs().max() <= atol, where
    else:
        assert one == other, where


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "one_shard", "taken_over", "taken_back", "compiled"])
def test_shards_compute_what_whole_weights_do(runs, name):
    """Losses, norms, weights, averages and moments; also where runs change the number of hands."""
    folder, _ = runs
    like = "half_alone" if name == "compiled" else "alone"
    expected, found = losses(folder / like), losses(folder / name)
    torch.testing.assert_close(
        torch.tensor(found), torch.tensor(expected[-len(found) :]), rtol=1e-5, atol=1e-5
    )
    assert len(found) == (4 if name in ("whole", "one_shard") else 2)
    alone, other = (read_training_checkpoint(last(folder / each)) for each in (like, name))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        one, two = ({"": alone[part]}, {"": other[part]})
        if isinstance(alone[part], list):
            one, two = (dict(enumerate(side[part])) for side in (alone, other))
        assert_close(one, two, 1e-5, part)


@pytest.mark.slow
def test_what_two_have_saved_is_sampled_by_one(runs):
    folder, _ = runs
    one, two = (flowgen.load(folder / name, device="cpu") for name in ("alone", "whole"))
    expected, found = (each.sample(16, seed=1, decode=False) for each in (one, two))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (folder / "whole" / "samples" / "step_0000004.png").is_file()


@pytest.mark.slow
def test_half_precision_of_blocks_is_that_of_whole_weights(runs):
    folder, _ = runs
    expected, found = (torch.tensor(losses(folder / name)) for name in ("bf16_alone", "bf16"))
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0)
    state = read_training_checkpoint(last(folder / "bf16"))["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.slow
def test_a_run_that_breaks_tells_and_keeps_its_batch(runs):
    """The batch is repeated by a process alone, which needs the weights whole."""
    folder, ends = runs
    for end in ends:
        assert "the data are not finite in 1 rows of the batch (2)" in end
    kept = torch.load(folder / "hurt" / "nonfinite" / "step_0000000.pt", weights_only=True)
    assert kept["rank"] == 1
    expected = module().pipeline.field.state_dict()
    assert {name: value.shape for name, value in kept["state_dict"].items()} == {
        name: value.shape for name, value in expected.items()
    }


def test_an_objective_that_needs_whole_weights_is_refused():
    made = flow(vector_config())
    assert check_shardable(made) is made
    made.objective = torch.nn.Module()
    with pytest.raises(InputError, match="Module does more than call the model: use trainer=ddp"):
        check_shardable(made)
    made.objective = torch.nn.Linear(1, 1)
    made.objective.only_calls = True
    with pytest.raises(InputError, match="Linear learns weights of its own: use trainer=ddp"):
        check_shardable(made)
