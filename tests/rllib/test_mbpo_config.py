"""The configuration: one source of values, Tune's search spaces, and one clear sentence per error."""

from __future__ import annotations

import pickle
from dataclasses import fields

import gymnasium as gym
import pytest
from ray import tune
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule

from vagram_ray.core.model_losses import model_loss_names
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs import EnvironmentSpec
from vagram_ray.rllib import MBPO, MBPOConfig


def test_defaults_are_the_settings():
    assert MBPOConfig().to_settings() == MBPOSettings()


def test_every_setting_is_a_key():
    keys = MBPOConfig.known_keys()
    names = {field.name for field in fields(MBPOSettings)}
    assert names <= keys
    assert {"train_batch_size_per_learner", "seeds", "extensions", "num_distractors", "evaluation_interval"} <= keys


def test_fluent_setters_reach_settings_and_environment(make_config):
    config = (
        MBPOConfig()
        .environment(
            "Hopper-v4", num_distractors=3, distractor_process="published", env_config={"reset_noise_scale": 0.01}
        )
        .training(model_loss="nll", gamma=0.9, train_batch_size_per_learner=7, hidden_size=5, seeds=4, explore="mean")
    )
    settings, spec = config.to_settings(), config.environment_spec()
    assert (settings.model_loss, settings.gamma, settings.train_batch_size_per_learner) == ("nll", 0.9, 7)
    assert (settings.hidden_size, settings.explore) == (5, "mean")
    assert (spec.env_id, spec.num_distractors, spec.distractor_process) == ("Hopper-v4", 3, "published")
    readings = MBPOConfig().environment("Hopper-v4", distractor_scale="variance", distractor_reset="vector")
    assert readings.environment_spec() == EnvironmentSpec(
        "Hopper-v4", distractor_scale="variance", distractor_reset="vector"
    )
    assert spec.env_kwargs == {"reset_noise_scale": 0.01}
    config.validate()
    assert config.seeds == (4,)


def test_rllibs_explore_flag_means_sample_or_mean():
    assert MBPOConfig().env_runners(explore=False).to_settings().explore == "mean"
    assert MBPOConfig().env_runners(explore=True).to_settings().explore == "sample"


@pytest.mark.parametrize("clone", [pickle.dumps, lambda config: None], ids=["pickle", "copy"])
def test_a_copy_is_equal(make_config, clone):
    config = make_config(seeds=(1, 2), model_loss="nll").environment(num_distractors=2)
    copied = pickle.loads(clone(config)) if clone is pickle.dumps else config.copy()
    assert copied.to_settings() == config.to_settings()
    assert copied.environment_spec() == config.environment_spec()
    assert copied.seeds == (1, 2)


def test_survives_the_dict_that_tune_makes_of_it(make_config):
    config = make_config(seeds=[1, 2], model_loss="nll").environment(num_distractors=2)
    restored = MBPOConfig().update_from_dict(config.to_dict())
    assert restored.to_settings() == config.to_settings()
    assert restored.environment_spec() == config.environment_spec()
    restored.validate()
    assert restored.seeds == (1, 2)
    assert restored.evaluation_duration == 2


def test_search_spaces_can_be_set_and_are_refused_until_resolved():
    config = (
        MBPOConfig()
        .environment(tune.grid_search(["Pendulum-v1"]), num_distractors=tune.grid_search([0, 5]))
        .training(model_loss=tune.choice(["vagram", "nll"]), seeds=tune.grid_search([(0,), (1,)]))
        .training(train_batch_size_per_learner=tune.grid_search([32, 64]), actor_lr=tune.loguniform(1e-4, 1e-3))
    )
    assert config.copy().num_distractors == {"grid_search": [0, 5]}
    assert config.to_dict()["seeds"] == {"grid_search": [(0,), (1,)]}
    with pytest.raises(ValueError, match=r"still is a search space .*ray\.tune\.Tuner"):
        config.validate()


def refused(config: MBPOConfig) -> str:
    with pytest.raises(ValueError) as error:
        config.validate()
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("section", "settings", "name", "way_out"),
    [
        ("learners", {"num_learners": 1}, "num_learners=1", "raise the number of seeds or of trials"),
        ("env_runners", {"num_env_runners": 2}, "num_env_runners=2", "raise the number of seeds or of trials"),
        ("env_runners", {"num_envs_per_env_runner": 4}, "num_envs_per_env_runner=4", "set seeds"),
        ("evaluation", {"evaluation_num_env_runners": 1}, "evaluation_num_env_runners=1", "one process"),
        ("evaluation", {"evaluation_duration_unit": "timesteps"}, "evaluation_duration_unit='timesteps'", "episodes"),
        ("evaluation", {"evaluation_duration": "auto"}, "evaluation_duration='auto'", "episodes per seed"),
        ("evaluation", {"evaluation_duration": 0}, "evaluation_duration=0", "at least 1"),
        ("evaluation", {"evaluation_interval": 0.5}, "evaluation_interval=0.5", "None"),
        ("evaluation", {"evaluation_config": {"explore": True}}, "evaluation_config=", "deterministic"),
        ("evaluation", {"evaluation_config": {"gamma": 0.5}}, "evaluation_config=", "env_config alone"),
        ("debugging", {"seed": 3}, "seed=3", r".training(seeds=...)"),
        ("training", {"lr": 1e-4}, "lr=0.0001", "actor_lr"),
        ("training", {"grad_clip": 1.0}, "grad_clip=1.0", "does not clip"),
        ("training", {"train_batch_size": 64}, "train_batch_size=64", "train_batch_size_per_learner"),
        ("training", {"train_batch_size_per_learner": 0}, "train_batch_size_per_learner=0", "at least 1"),
        ("training", {"seeds": ()}, "seeds=()", "one whole number per seed"),
        ("training", {"seeds": (0, 1, 0)}, "seeds=(0, 1, 0)", "distinct"),
        ("training", {"seeds": (0, -1)}, "seeds=(0, -1)", "at least 0"),
        ("training", {"seeds": "0,1"}, "seeds='0,1'", "one whole number per seed"),
        ("training", {"model_loss": "vagrm"}, "model_loss='vagrm'", "'vagram'"),
        ("training", {"ensemble_size": 3, "num_elites": 5}, "num_elites=5", "ensemble_size=3"),
        ("training", {"extensions": "no_such_module"}, "'no_such_module'", "importable module"),
        ("training", {"extensions": "missing/file.py"}, "'missing/file.py'", "path that exists"),
        ("training", {"extensions": 173}, "extensions=173", "name modules or .py files"),
        ("learners", {"num_gpus_per_learner": 2}, "num_gpus_per_learner=2", "one device"),
        ("reporting", {"min_time_s_per_iteration": 5}, "min_time_s_per_iteration=5", "epoch_length"),
        ("environment", {"num_distractors": -1}, "num_distractors=-1", "0"),
        ("environment", {"distractor_scale": "std"}, "distractor_scale='std'", "'variance'"),
        ("environment", {"distractor_reset": "all"}, "distractor_reset='all'", "'vector'"),
        ("environment", {"env": None}, "env=None", ".environment('Hopper-v4')"),
        ("environment", {"env": "Hopper-v2"}, "Hopper-v2", "Hopper-v4"),
        ("environment", {"env": "CartPole-v1"}, "CartPole-v1", "ContinuousCartPole-v0"),
        ("multi_agent", {"policies": {"a", "b"}}, "policies=['a', 'b']", "single-agent"),
        ("rl_module", {"model_config": {"fcnet_hiddens": [8]}}, "model_config=", "actor_hidden_sizes"),
        ("rl_module", {"rl_module_spec": RLModuleSpec(TorchRLModule)}, "rl_module_spec=", "MBPORLModule"),
    ],
)
def test_each_error_names_the_value_and_the_way_out(section, settings, name, way_out):
    config = MBPOConfig().environment("Pendulum-v1")
    getattr(config, section)(**settings)
    message = refused(config)
    assert name in message
    assert way_out in message


def test_an_environment_without_termination_function_is_refused_unless_there_is_no_model():
    gym.register("NoTerminationKnown-v0", entry_point="gymnasium.envs.classic_control:PendulumEnv")
    config = MBPOConfig().environment("NoTerminationKnown-v0").training(model_loss="vagram")
    assert "register_termination" in refused(config)
    config.training(model_loss="none").validate()


def test_unknown_names_are_refused_with_the_closest_ones():
    with pytest.raises(ValueError, match=r"'model_los' .did you mean 'model_loss'"):
        MBPOConfig().training(model_los="nll")
    with pytest.raises(ValueError, match=r"'num_distractor' .did you mean 'num_distractors'"):
        MBPOConfig().environment("Hopper-v4", num_distractor=5)
    with pytest.raises(ValueError, match=r"'batch_size' .it is RLlib's train_batch_size_per_learner"):
        MBPOConfig().training(batch_size=3)
    with pytest.raises(ValueError, match=r"'replay_buffer_config' .*replay_capacity"):
        MBPOConfig().training(replay_buffer_config={"type": "x"})


def test_unknown_keys_of_a_dict_are_refused_where_tune_would_carry_them_along():
    config = MBPOConfig().environment("Pendulum-v1").to_dict() | {"num_distracters": 5}
    with pytest.raises(ValueError, match=r"'num_distracters' .did you mean 'num_distractors'"):
        MBPO.default_resource_request(config)
    with pytest.raises(ValueError, match=r"'num_distracters' .did you mean 'num_distractors'"):
        MBPO(config=config)


def test_a_gpu_that_is_not_there_is_named(make_config, build):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=r"num_gpus_per_learner=1 is not usable: PyTorch finds no GPU"):
        build(make_config().learners(num_gpus_per_learner=1))


def test_env_workers_are_gone_and_a_sentence_says_so(make_config):
    with pytest.raises(ValueError, match=r"no setting 'env_workers' \(environments step in the trial's own process"):
        make_config().environment(env_workers=2)


def test_cuda_graphs_on_a_cpu_are_refused(make_config):
    with pytest.raises(ValueError, match=r"execution='cuda_graphs' is not usable on a CPU.*num_gpus_per_learner"):
        make_config().training(execution="cuda_graphs").validate()
    make_config().training(execution="cuda_graphs").learners(num_gpus_per_learner=0.5).validate()


@pytest.mark.parametrize("kind", ["file", "module"])
def test_extensions_are_imported_once_before_anything_is_looked_up(kind, tmp_path, monkeypatch):
    name = f"my_losses_{kind}"
    code = (
        "import builtins\n"
        "from vagram_ray.core.model_losses import register_model_loss\n"
        f"builtins.{name}_imports = getattr(builtins, '{name}_imports', 0) + 1\n"
        f"@register_model_loss('{name}')\n"
        "def loss(prediction, target):\n"
        "    return (prediction.reward - target.reward).square()\n"
    )
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = MBPOConfig().environment("Pendulum-v1").training(model_loss=name)
    config.training(extensions=f"{name}.py" if kind == "file" else name)
    config.validate()
    config.copy().validate()
    assert name in model_loss_names()
    import builtins

    assert getattr(builtins, f"{name}_imports") == 1


def test_relative_extension_files_count_from_tunes_original_directory(tmp_path, monkeypatch):
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "elsewhere.py").write_text("import math\n")
    (tmp_path / "trial").mkdir()
    monkeypatch.chdir(tmp_path / "trial")
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(tmp_path / "start"))
    MBPOConfig().environment("Pendulum-v1").training(extensions="elsewhere.py").validate()
    MBPOConfig().update_from_dict({"env": "Pendulum-v1", "extensions": "elsewhere.py"}).validate()


def test_an_extension_that_fails_is_named(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    config = MBPOConfig().environment("Pendulum-v1").training(extensions=str(path))
    for _ in range(2):  # the second time it must not find half a module
        assert "ZeroDivisionError" in refused(config)


def test_resources_of_a_trial_are_those_of_one_process(make_config):
    config = make_config().learners(num_gpus_per_learner=0.25)
    request = MBPO.default_resource_request(config.to_dict())
    assert request.bundles == [{"CPU": 1, "GPU": 0.25}]


def test_trials_can_share_a_cpu(make_config):
    config = make_config().learners(num_cpus_per_learner=0.5).resources(num_cpus_for_main_process=0.5)
    assert MBPO.default_resource_request(config.to_dict()).bundles == [{"CPU": 0.5}]
