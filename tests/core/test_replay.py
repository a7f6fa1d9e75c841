import numpy as np
import pytest
import torch

from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import ImaginedBuffer, ReplayBuffer, TransitionLayout

LAYOUT = TransitionLayout(obs_dim=2, action_dim=1)


def fill(buffer, values, num_seeds=2):
    for value in values:
        column = np.full(num_seeds, float(value))
        buffer.add(np.stack([column, -column], 1), column[:, None], column, np.stack([column, column], 1), column > 3)


def test_rows_hold_the_columns_they_were_given():
    buffer = ReplayBuffer(2, 10, LAYOUT)
    obs, next_obs = np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]])
    buffer.add(obs, np.array([[0.5], [0.6]]), np.array([9.0, 10.0]), next_obs, np.array([True, False]))
    stored = LAYOUT.split(buffer.rows)
    assert stored.obs[:, 0].tolist() == obs.tolist()
    assert stored.next_obs[:, 0].tolist() == next_obs.tolist()
    assert stored.reward[:, 0].tolist() == [9.0, 10.0]
    assert stored.terminated[:, 0].tolist() == [1.0, 0.0]
    torch.testing.assert_close(stored.action[:, 0, 0], torch.tensor([0.5, 0.6]))


def test_the_oldest_transitions_are_overwritten_at_capacity():
    buffer = ReplayBuffer(2, 4, LAYOUT)
    fill(buffer, range(6))
    assert len(buffer) == 4
    assert sorted(LAYOUT.split(buffer.rows).reward[0].tolist()) == [2, 3, 4, 5]


def test_memory_grows_with_the_data_and_keeps_it():
    buffer = ReplayBuffer(2, 5000, LAYOUT)
    fill(buffer, range(2500))
    assert LAYOUT.split(buffer.rows).reward[1].tolist() == list(range(2500))
    assert buffer._rows.shape[1] == 4096


def test_a_restored_buffer_goes_on_like_the_original():
    for count in (1024, 1030, 3):
        original, restored = ReplayBuffer(2, 1050, LAYOUT), ReplayBuffer(2, 1050, LAYOUT)
        fill(original, range(count))
        restored.load_state_dict(original.state_dict())
        for buffer in (original, restored):
            fill(buffer, range(count, count + 40))
        assert torch.equal(original.rows, restored.rows)


def test_a_buffer_may_be_restored_into_a_capacity_that_it_fills():
    buffer, full = ReplayBuffer(2, 5000, LAYOUT), ReplayBuffer(2, 1500, LAYOUT)
    fill(buffer, range(1500))
    full.load_state_dict(buffer.state_dict())
    fill(full, [1500, 1501])
    assert sorted(LAYOUT.split(full.rows).reward[0].tolist()) == list(range(2, 1502))
    assert LAYOUT.split(full.arrivals(2, 1502)).reward[0].tolist() == list(range(2, 1502))


def test_restoring_into_a_smaller_buffer_is_refused():
    saved = ReplayBuffer(2, 3000, LAYOUT)
    fill(saved, range(1500))
    with pytest.raises(ValueError, match="holds 1500 transitions per seed, but replay_capacity=1200"):
        ReplayBuffer(2, 1200, LAYOUT).load_state_dict(saved.state_dict())


def test_samples_are_uniform_over_what_is_stored():
    buffer = ReplayBuffer(2, 100, LAYOUT)
    fill(buffer, range(10))
    index = buffer.sample_index(RandomStreams([0, 1], "sac"), 20_000)
    counts = torch.bincount(index[0], minlength=10)
    assert len(counts) == 10
    assert (counts - 2000).abs().max() < 250  # 5.9 standard deviations


def rows_of(values):
    rows = torch.zeros(*np.shape(values), LAYOUT.width)
    rows[..., 3] = torch.tensor(values, dtype=torch.float32)  # the reward column
    return rows


def stored_rewards(buffer, seed):
    return sorted(buffer._rows[seed, : buffer.sizes[seed], 3].tolist())


def test_imagined_buffer_keeps_valid_transitions_only_and_counts_per_seed():
    buffer = ImaginedBuffer(2, 10, LAYOUT)
    buffer.add(rows_of([[1, 2, 3], [4, 5, 6]]), torch.tensor([[True, False, True], [False, False, True]]))
    assert buffer.sizes.tolist() == [2, 1]
    assert stored_rewards(buffer, 0) == [1, 3]
    assert stored_rewards(buffer, 1) == [6]


def test_imagined_buffer_is_a_ring_per_seed():
    buffer = ImaginedBuffer(1, 4, LAYOUT)
    for start in range(0, 9, 3):
        buffer.add(rows_of([[start, start + 1, start + 2]]), torch.ones(1, 3, dtype=torch.bool))
    assert stored_rewards(buffer, 0) == [5, 6, 7, 8]


def test_resizing_keeps_the_newest_transitions_of_each_seed():
    buffer = ImaginedBuffer(2, 6, LAYOUT)
    for start in (0, 4):
        valid = torch.tensor([[True] * 4, [True, False, False, False]])
        buffer.add(rows_of([[start + i for i in range(4)]] * 2), valid)
    buffer.resize(3)
    assert stored_rewards(buffer, 0) == [5, 6, 7]
    assert stored_rewards(buffer, 1) == [0, 4]
    buffer.resize(8)
    buffer.add(rows_of([[10, 11]] * 2), torch.ones(2, 2, dtype=torch.bool))
    assert stored_rewards(buffer, 0) == [5, 6, 7, 10, 11]
    assert stored_rewards(buffer, 1) == [0, 4, 10, 11]


def test_imagined_samples_stay_within_each_seeds_size():
    buffer = ImaginedBuffer(2, 10, LAYOUT)
    buffer.add(rows_of([[1, 2, 3], [4, 5, 6]]), torch.tensor([[True, True, True], [True, False, False]]))
    index = buffer.sample_index(RandomStreams([0, 1], "sac"), 500)
    assert set(index[0].tolist()) == {0, 1, 2}
    assert set(index[1].tolist()) == {0}
