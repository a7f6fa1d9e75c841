"""Recorded work gives the numbers of the same work done step by step: on a CPU by what CUDA graphs mean, on a GPU."""

import contextlib
import copy
import functools
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.core.tape_recorder import CannotBeRecordedError, TapeRecorder
from tests.core.test_mbpo import assert_same_state
from tests.core.toy import PointEnvs, small_agent
from vagram_ray.core import execution
from vagram_ray.core.graphs import CudaRecorder, RepeatedWork, make_recorder
from vagram_ray.core.random_streams import RandomStreams

RECORDED = {"model_batch_size": 8, "epoch_length": 30, "model_max_epochs": 5}  # many minibatches per fit epoch


@pytest.fixture
def recorder(monkeypatch):
    """Agents that are asked for CUDA graphs get this one."""
    tape = TapeRecorder()
    monkeypatch.setattr(execution, "make_recorder", lambda way, device: tape if way == "cuda_graphs" else None)
    return tape


def trained(epochs=2, envs=PointEnvs, **overrides):
    agent, own_envs = small_agent(**{**RECORDED, **overrides}), envs([0, 1])
    return agent, [agent.train_epoch(own_envs) for _ in range(epochs)]


def assert_same_metrics(first, second):
    for mine, other in zip(first, second, strict=True):
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            if not key.startswith("time/"):
                np.testing.assert_array_equal(other[key], value, err_msg=key)


# -- the wrapper ---------------------------------------------------------------------------------------------------


def test_work_is_called_then_recorded_then_replayed():
    recorder, state, calls = TapeRecorder(), torch.zeros(3), []

    def work(inputs):
        calls.append(None)
        state.add_(inputs)
        return 2 * state

    repeat = RepeatedWork(recorder)
    for number in range(5):
        result = repeat("work", work, torch.full((3,), float(number)))
        assert state.tolist() == [sum(range(number + 1))] * 3
        assert torch.equal(result, 2 * state)
    assert (len(calls), recorder.warm_ups, recorder.recordings, recorder.replays) == (2, 1, 1, 4)
    repeat.forget()
    repeat("work", work, torch.ones(3))
    assert (len(calls), recorder.warm_ups) == (3, 2)


def test_work_of_another_key_is_recorded_apart():
    recorder, state = TapeRecorder(), torch.zeros(2)
    repeat = RepeatedWork(recorder)
    for number in range(9):
        repeat(number % 3, functools.partial(state.add_, alpha=10 ** (number % 3)), torch.ones(2))
    assert state.tolist() == [333, 333]
    assert recorder.recordings == 3


def test_without_a_recorder_everything_is_called():
    calls = []
    repeat = RepeatedWork(None)
    for _ in range(3):
        assert repeat("key", lambda inputs: calls.append(inputs) or 7, torch.ones(1)) == 7
    assert len(calls) == 3


def test_work_that_draws_random_numbers_is_never_recorded():
    recorder, streams, alone = TapeRecorder(), RandomStreams([3], "noise"), RandomStreams([3], "noise")
    repeat = RepeatedWork(recorder, streams)
    for _ in range(4):
        found = repeat("key", lambda inputs: inputs + streams.normal(2), torch.ones(1, 2))
        assert torch.equal(found, 1 + alone.normal(2))
    assert recorder.recordings == 0


@pytest.mark.parametrize(
    "work",
    [
        lambda inputs: inputs if inputs.sum() > 0 else -inputs,
        lambda inputs: inputs * inputs.max().item(),
        lambda inputs: inputs[inputs > 0],
        lambda inputs: inputs + torch.tensor([1.0, 2.0]),
        lambda inputs: inputs + torch.empty(2).normal_(),
    ],
)
def test_the_tape_refuses_what_cuda_refuses(work):
    repeat = RepeatedWork(TapeRecorder())
    repeat("key", work, torch.ones(2))
    with pytest.raises(CannotBeRecordedError):
        repeat("key", work, torch.ones(2))


def test_graphs_without_a_gpu_are_refused():
    needed = r"execution='cuda_graphs' needs a CUDA device.*on 'cpu'.*use execution='auto'"
    with pytest.raises(ValueError, match=needed):
        small_agent(execution="cuda_graphs")
    assert make_recorder("eager", torch.device("cuda")) is None
    assert make_recorder("default", torch.device("cpu")) is None


# -- the agent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        dict(model_loss="vagram"),
        dict(model_loss="nll", normalize_features=True, normalize_observations=True),
        dict(model_loss="itervaml", normalize_dynamics_targets=True, normalize_reward_targets=True),
        dict(model_loss="taylor_hessian", prediction_target="next_obs"),
        dict(model_loss="value_weighted"),
        dict(model_loss="cvaml"),  # draws noise: its minibatches are not recorded
        dict(model_loss="none", actor_update_period=2, target_update_period=3, utd_ratio=4),  # three phases
        dict(model_loss="mse", actor_hidden_sizes=(128, 128), critic_hidden_sizes=(128, 128)),  # by oneDNN, if any
    ],
    ids=lambda overrides: overrides["model_loss"],
)
def test_recorded_training_equals_eager_training_bit_for_bit(overrides, recorder):
    eager, expected = trained(**overrides)
    assert recorder.recordings == 0
    graphed, found = trained(**overrides, execution="cuda_graphs")
    assert recorder.recordings > 0
    assert recorder.replays > 10 * recorder.recordings or overrides["model_loss"] in ("none", "cvaml")
    assert_same_state(eager.state_dict(), graphed.state_dict())
    assert_same_metrics(expected, found)


def test_updates_of_an_environment_step_are_one_recording_per_phase(recorder):
    periods = dict(actor_update_period=2, target_update_period=3, utd_ratio=4)
    agent, _ = trained(model_loss="none", **periods, execution="cuda_graphs")
    # 4 updates per step move the phase of period 6 by 4: 0, 4, 2
    assert (recorder.warm_ups, recorder.recordings, recorder.replays) == (3, 3, 2 * 30 - 3)
    assert agent.sac.num_updates == 2 * 30 * 4


def test_an_agent_that_is_restored_goes_on_as_recorded(recorder):
    through, _ = trained(epochs=1, execution="cuda_graphs")
    state = {key: value for key, value in through.state_dict().items()}
    resumed = small_agent(**RECORDED, execution="cuda_graphs")
    resumed.train_epoch(PointEnvs([0, 1]))  # recordings of its own, before
    resumed.load_state_dict(state)
    for agent in (through, resumed):
        agent.train_epoch(PointEnvs([5, 6]))
    assert_same_state(through.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("way", ["eager", "cuda_graphs"])
def test_a_seed_that_is_frozen_stands_still_and_goes_on_when_a_state_is_loaded(way, recorder):
    agent, envs = small_agent(**RECORDED, execution=way), PointEnvs([0, 1])
    agent.train_epoch(envs)
    state = copy.deepcopy(agent.state_dict())
    agent._freeze(0)
    for first_moves in (False, True):
        before = [flat.detach().clone() for flat in (agent.actor.flat, agent.dynamics.network.flat)]
        agent.train_epoch(envs)
        for own, old in zip((agent.actor.flat, agent.dynamics.network.flat), before, strict=True):
            moved = (own != old).view(2, -1).any(dim=1)
            assert moved.tolist() == [first_moves, True]
        agent.load_state_dict(state)


# -- the recorder of CUDA graphs, with a CUDA that keeps its books ----------------------------------------------------


class FakeCuda:
    """``torch.cuda``'s rules for pools and recording: a pool whose last graph has gone is not recorded into again,
    and what is short of memory while recording gets none from the cache.
    """

    def __init__(self):
        self.users, self.recording, self.cached, self.emptied = {}, False, 0, 0
        cuda = self

        class Graph:
            def capture_begin(self, pool, capture_error_mode):
                assert not cuda.recording and cuda.users.get(pool, 1) > 0, "the pool is gone"
                cuda.recording, self.pool = True, pool
                cuda.users[pool] = cuda.users.get(pool, 0) + 1
                weakref.finalize(self, cuda.leave, pool)

            def capture_end(self):
                assert cuda.recording
                cuda.recording = False

            def replay(self):
                assert not cuda.recording

        self.CUDAGraph = Graph

    def leave(self, pool):
        self.users[pool] -= 1

    def empty_cache(self):
        assert not self.recording
        self.cached, self.emptied = 0, self.emptied + 1

    def allocate(self):
        if self.cached:
            raise torch.OutOfMemoryError("the cache has it all")


@pytest.fixture
def cuda(monkeypatch):
    fake, stream = FakeCuda(), SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", fake.CUDAGraph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "empty_cache", fake.empty_cache)
    return fake


def test_recording_goes_on_when_all_earlier_recordings_have_gone(cuda):
    recorder = CudaRecorder(torch.device("cuda"))
    for _ in range(3):  # as at each model fit
        work = RepeatedWork(recorder)
        for _ in range(3):
            work("key", torch.neg, torch.ones(2))
        del work
    assert cuda.users == {(0, 1): 1}  # the one that keeps the pool


def test_a_recording_that_is_short_of_memory_empties_the_cache_and_is_made_once_more(cuda):
    recorder = CudaRecorder(torch.device("cuda"))
    cuda.cached = 1
    _, result = recorder.record(lambda: cuda.allocate() or "done")
    assert (result, cuda.emptied, cuda.recording) == ("done", 1, False)


def test_an_error_while_recording_is_the_callers_and_recording_has_ended(cuda):
    recorder = CudaRecorder(torch.device("cuda"))
    with pytest.raises(ZeroDivisionError):
        recorder.record(lambda: 1 / 0)
    assert not cuda.recording and cuda.emptied == 0


# -- on a GPU ------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("loss", ["vagram", "nll", "cvaml", "none"])
def test_cuda_graphs_equal_eager_training_on_the_gpu(loss):
    """The same kernels in the same order: equal up to the choice of algorithms inside cuBLAS."""
    agents = []
    for way in ("eager", "cuda_graphs"):
        agent = small_agent(**RECORDED, model_loss=loss, execution=way, device="cuda")
        agent.train_epoch(PointEnvs([0, 1]))
        agents.append(agent)
    eager, graphed = agents
    for own, other in ((eager.actor, graphed.actor), (eager.sac.critic, graphed.sac.critic)):
        torch.testing.assert_close(own.network.flat, other.network.flat, rtol=1e-3, atol=1e-4)
