"""A configuration as plain data: equal settings give equal data, and it can be built again from it."""

import json

import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from vagram_ray.rllib import MBPOConfig
from vagram_ray.rllib.plain_config import config_from_plain, differences, plain_settings


def config(**training):
    return MBPOConfig().environment("Pendulum-v1", num_distractors=2, env_config={"g": 9.8}).training(**training)


def test_a_configuration_comes_back_through_json():
    original = config(actor_hidden_sizes=[64, 64], explore=True, model_loss_options={"state_weight": np.float64(2)})
    original.evaluation(evaluation_interval=5)
    plain = json.loads(json.dumps(plain_settings(original), allow_nan=False))
    rebuilt = config_from_plain(MBPOConfig(), plain, (1, 2))
    rebuilt.validate()
    assert plain_settings(rebuilt) == plain and rebuilt.seeds == (1, 2)
    assert rebuilt.to_settings() == original.to_settings()
    assert rebuilt.environment_spec() == original.environment_spec()


def test_every_hyperparameter_is_kept():
    from vagram_ray.core.settings import MBPOSettings

    kept, execution = set(plain_settings(config())), {"execution"}
    expected = set(MBPOSettings.field_names())
    assert expected - execution <= kept and not kept & execution


def test_where_and_how_it_runs_makes_no_difference(tmp_path):
    here = config(extensions=(str(tmp_path / "mine.py"),))
    there = config(extensions=("/elsewhere/mine.py",), execution="cuda_graphs").learners(num_gpus_per_learner=0.5)
    there.training(seeds=(4,))
    there.checkpointing(checkpoint_every=3).environment(env_step_time_limit_s=None).debugging(log_level="INFO")
    assert plain_settings(here) == plain_settings(there)


def test_differences_name_old_and_new():
    old, new = plain_settings(config()), plain_settings(config(actor_lr=0.1, num_layers=2))
    assert differences(old, new) == {"actor_lr": (3e-4, 0.1), "num_layers": (4, 2)}
    assert differences(old, old) == differences({**old, "compile": "default"}, old) == {}


def test_a_setting_that_one_side_does_not_know_is_as_its_default():
    old, new = plain_settings(config()), plain_settings(config(actor_lr=0.1))
    for name in ("prediction_target", "actor_lr"):
        del old[name]
    assert differences(old, new) == {"actor_lr": (3e-4, 0.1)}


def of_an_earlier_version(settings):
    """As a version wrote it that knew one reading of the paper's distractors, and another process by that name."""
    return {name: value for name, value in settings.items() if name not in ("distractor_scale", "distractor_reset")}


def test_the_paper_process_of_an_earlier_version_is_the_drift_of_today():
    old, drift = of_an_earlier_version(plain_settings(config())), config().environment(distractor_process="drift")
    assert old["distractor_process"] == "paper"
    assert differences(old, plain_settings(config())) == {"distractor_process": ("drift", "paper")}
    assert differences(old, plain_settings(drift)) == {}
    assert config_from_plain(MBPOConfig(), old, (0,)).environment_spec() == drift.environment_spec()
    published = config().environment(distractor_process="published")
    assert differences(of_an_earlier_version(plain_settings(published)), plain_settings(published)) == {}


def test_settings_of_distractors_that_are_not_used_change_nothing():
    bare = config().environment(num_distractors=0)
    other = bare.copy().environment(distractor_process="drift", distractor_reset="vector")
    assert differences(plain_settings(bare), plain_settings(other)) == {}
    assert differences(of_an_earlier_version(plain_settings(bare)), plain_settings(other)) == {}
    drift = config().environment(distractor_process="drift")
    other = config().environment(distractor_process="drift", distractor_scale="variance")
    assert differences(plain_settings(drift), plain_settings(other)) == {}
    paper = config().environment(distractor_reset="vector")
    assert differences(plain_settings(config()), plain_settings(paper)) == {"distractor_reset": ("component", "vector")}


def test_the_models_settings_change_nothing_for_plain_sac():
    old, new = (plain_settings(config(model_loss="none", hidden_size=size)) for size in (8, 64))
    assert differences(old, new) == {}
    assert differences(plain_settings(config(hidden_size=8)), new) == {
        "hidden_size": (8, 64),
        "model_loss": ("vagram", "none"),
    }


def test_what_is_no_plain_data_is_named_and_not_rebuilt():
    original = config().environment(env_config={"model": PendulumEnv})
    plain = json.loads(json.dumps(plain_settings(original)))
    assert plain["env_config"]["model"] == {"$object": "gymnasium.envs.classic_control.pendulum.PendulumEnv"}
    with pytest.raises(ValueError, match=r"env_config holds gymnasium.*PendulumEnv, which is no plain data"):
        config_from_plain(MBPOConfig(), plain, (0,))
