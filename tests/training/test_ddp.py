"""Two processes take the same step as one with the same global batch."""

import pytest
import torch

from ddp_runs import BrokenOnOne, SecondLeftOut, blamed, trained
from runs import flow
from small import vector_config
from two_processes import in_fresh_process


def test_two_processes_equal_one(tmp_path):
    alone = trained(tmp_path, None)
    start = flow(vector_config()).state_dict()
    assert any(not torch.allclose(alone[name], start[name]) for name in alone)
    for micro_batch in (None, 3):
        together = in_fresh_process(trained, tmp_path, micro_batch, strategy="ddp_fork", devices=2)
        for name, value in alone.items():
            assert torch.allclose(value, together[name], atol=1e-6), name


def test_processes_skip_a_step_together(tmp_path):
    """Otherwise one of them would wait for ever, or go on with other weights."""
    steps = {"max_steps": 2}
    together = in_fresh_process(
        trained, tmp_path, None, BrokenOnOne, strategy="ddp_fork", devices=2, **steps
    )
    expected = trained(tmp_path, None, SecondLeftOut, **steps)
    for name, value in expected.items():
        assert torch.allclose(value, together[name], atol=1e-6), name


def test_the_process_to_blame_tells_and_keeps_its_batch(tmp_path):
    """That of the others is sound, and to repeat it would show nothing."""
    with pytest.raises(Exception, match=r"the data are not finite in 1 rows of the batch \(2\)"):
        in_fresh_process(blamed, tmp_path)
    kept = torch.load(tmp_path / "nonfinite" / "step_0000000.pt", weights_only=True)
    assert kept["rank"] == 1
    assert kept["number"] == 1
    assert kept["pair"]["x_1"][2].isnan().all()
