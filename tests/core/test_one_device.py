"""Nothing leaves the device in training: what would fail on a GPU fails here, on PyTorch's ``meta`` device.

It has shapes and no numbers, refuses to mix with tensors of the CPU, and has no values that the host could read.
"""

import pytest
import torch

from tests.core.toy import never, small_settings
from vagram_ray.core import random_streams
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.model_fitting import ModelFit
from vagram_ray.core.model_losses import model_loss_names
from vagram_ray.core.model_rollouts import imagine
from vagram_ray.core.value_gradients import ValueEstimates


@pytest.fixture
def meta_agent(monkeypatch):
    """Makes an agent on the meta device with 1,000 stored transitions."""
    monkeypatch.setattr(random_streams, "_generator", lambda seed, purpose, device: torch.Generator())
    original = torch.randperm  # the one operation for which the meta device has no kernel that takes a generator
    monkeypatch.setattr(torch, "randperm", lambda n, generator, device: original(n, device=device))

    def make(**overrides):
        settings = small_settings(
            normalize_features=True, normalize_observations=True, normalize_dynamics_targets=True,
            normalize_reward_targets=True, **overrides,
        )  # fmt: skip
        agent = MBPOAgent(settings, seeds=(0, 1), obs_dim=5, action_dim=2, termination=never, device="meta")
        agent.replay.load_state_dict(
            {"size": 1000, "num_added": 1000, "next": 1000, "rows": torch.zeros(2, 1000, agent.replay.layout.width)}
        )
        return agent

    return make


@pytest.mark.parametrize("loss", model_loss_names())
def test_updates_fits_and_rollouts_stay_on_the_device_and_read_nothing(loss, meta_agent):
    agent = meta_agent(model_loss=loss)
    metrics = EpochMetrics(2)
    agent._improve_policy(metrics)
    data = agent.replay.layout.split(agent.replay.rows)
    agent.actor.scale.fit(data.obs)
    if loss == "none":
        return
    values = ValueEstimates(agent.sac)
    fit = ModelFit(agent.dynamics, agent.model_optimizer, data, values, agent.settings, agent._streams["fit"])
    assert fit._train_epoch(fit.cohort).device.type == "meta"
    agent.dynamics.set_elites(fit._validate(fit.cohort))
    imagine(
        agent.dynamics, agent.actor, never, agent.replay, agent.imagined,
        num_rollouts=20, rollout_length=2, streams=agent._streams["rollout"],
    )  # fmt: skip
    agent._has_imagined = True
    agent.epoch = 2  # most of a batch is imagined
    agent._improve_policy(metrics)
    agent.imagined.resize(50)
    tensors = [agent.imagined._rows, agent.actor.flat, agent.dynamics.network.flat, *metrics._sums["sac"].sums.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_value_that_the_host_reads_is_noticed(meta_agent):
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(meta_agent().actor.flat.isfinite().all())
