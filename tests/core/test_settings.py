import pytest

from vagram_ray.core.settings import MBPOSettings, SettingsError, schedule_value


@pytest.mark.parametrize(("epoch", "expected"), [(0, 1.0), (20, 1.0), (30, 2.0), (59, 4.9), (60, 5.0), (1000, 5.0)])
def test_schedules_are_linear_between_their_epochs_and_constant_outside(epoch, expected):
    assert schedule_value((20, 60, 1.0, 5.0), epoch) == pytest.approx(expected)


def test_default_data_mix_rises_to_95_percent_imagined_over_40_epochs():
    settings = MBPOSettings()
    assert [settings.real_ratio_at(epoch) for epoch in (0, 20, 40, 99)] == pytest.approx([1.0, 0.525, 0.05, 0.05])


def test_rollout_length_is_rounded_down():
    settings = MBPOSettings(rollout_length=(20, 150, 1, 15))
    assert [settings.rollout_length_at(epoch) for epoch in (0, 29, 30, 150)] == [1, 1, 2, 15]
    settings = MBPOSettings(rollout_length=(0, 22, 1, 23))  # one more in each epoch, also where floats fall short of it
    assert [settings.rollout_length_at(epoch) for epoch in range(23)] == list(range(1, 24))


def test_plain_sac_uses_real_data_alone():
    assert MBPOSettings(model_loss="none").real_ratio_at(100) == 1.0


@pytest.mark.parametrize(("loss", "expected"), [("nll", True), ("vagram", False), ("mse", False), ("none", False)])
def test_the_variance_head_follows_the_loss(loss, expected):
    assert MBPOSettings(model_loss=loss).has_variance_head is expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_loss", "vagran", "model_loss='vagran' is not registered"),
        ("num_elites", 8, "num_elites=8.*ensemble_size=7"),
        ("hidden_size", -1, "hidden_size=-1"),
        ("num_layers", 2.5, "num_layers=2.5"),
        ("utd_ratio", 0, "utd_ratio=0"),
        ("actor_lr", 0.0, "actor_lr=0.0"),
        ("actor_lr", float("nan"), "actor_lr=nan"),
        ("alpha_lr", -1e-4, "alpha_lr=-0.0001 .* at least 0"),
        ("gamma", 1.5, "gamma=1.5"),
        ("tau", 0, "tau=0"),
        ("validation_fraction", 1.0, "validation_fraction=1.0"),
        ("value_gradient_clip_percentile", 101, "value_gradient_clip_percentile=101"),
        ("actor_hidden_sizes", (), "actor_hidden_sizes="),
        ("critic_hidden_sizes", "256", "critic_hidden_sizes='256'"),
        ("rollout_length", (1, 2, 3), "rollout_length="),
        ("rollout_length", (20, 10, 1, 1), "first <= last"),
        ("rollout_length", (0, 1, 0, 1), "values of at least 1"),
        ("rollout_truncation", "macura", "rollout_truncation='macura' .* 'disagreement' or 'value_disagreement'"),
        ("rollout_truncation_quantile", 95, "rollout_truncation_quantile=95 .* above 0 and up to 1"),
        ("rollout_truncation_quantile", 0.0, "rollout_truncation_quantile=0.0 .* above 0 and up to 1"),
        ("rollout_truncation_factor", 0.5, "factor=0.5 .* at least 1, .* lower rollout_truncation_quantile"),
        ("real_ratio", (0, 40, 1.0, 1.05), "between 0 and 1"),
        ("explore", "greedy", "'sample' or 'mean'"),
        ("target_entropy", "automatic", "target_entropy='automatic'"),
        ("normalize_features", 1, "True or False"),
        ("normalize_dynamics_targets", 1, "normalize_dynamics_targets=1 .* True or False"),
        ("normalize_reward_targets", "yes", "normalize_reward_targets='yes' .* True or False"),
        ("execution", "off", "execution='off' .* 'auto', 'eager', 'native' or 'cuda_graphs'"),
        ("matmul_precision", "medium", "matmul_precision='medium' .* 'highest' or 'high'"),
        ("prediction_target", "state", "prediction_target='state' .* 'delta' or 'next_obs'"),
        ("model_max_epochs", 0, "None for no limit"),
        ("reward_weight", -1.0, "reward_weight=-1.0 .* 'mean_value_weight' or a number of at least 0"),
        ("reward_weight", True, "reward_weight=True .* number of at least 0"),
        ("reward_weight", "per_ouput", "reward_weight='per_ouput' .* 'per_output'"),
        ("early_stopping_metric", "mse", "early_stopping_metric='mse' .* 'loss' or 'squared_error'"),
        ("weight_terminal", "zero", "weight_terminal='zero' .* 'gradient' or 'mean'"),
        ("num_steps_sampled_before_learning_starts", -1, "at least 0"),
        ("model_loss_options", 0.01, "model_loss_options=0.01.*needs numbers by name"),
        ("model_loss_options", {"mse_wieght": 0.01}, r"no 'mse_wieght'; there are .*Did you mean 'mse_weight'\?"),
    ],
)
def test_unusable_values_are_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        MBPOSettings(**{name: value})


@pytest.mark.parametrize("loss", ["nll", "mse", "taylor", "itervaml", "vaml_sac", "cvaml"])
def test_the_mean_of_value_weights_is_refused_where_there_are_none(loss):
    with pytest.raises(SettingsError, match=f"model_loss='{loss}' does not have; use a number, 'per_output' or 'auto'"):
        MBPOSettings(model_loss=loss, reward_weight="mean_value_weight")


@pytest.mark.parametrize("loss", ["vagram", "value_weighted", "value_weighted_published", "none"])
def test_the_mean_of_value_weights_is_accepted_where_there_are_some(loss):
    assert MBPOSettings(model_loss=loss, reward_weight="mean_value_weight").reward_weight == "mean_value_weight"


def test_disagreement_of_a_single_elite_is_refused():
    with pytest.raises(SettingsError, match=r"num_elites=1; raise it to at least 2"):
        MBPOSettings(rollout_truncation="disagreement", num_elites=1)


def test_a_variance_head_that_the_loss_lacks_or_does_not_train_is_refused():
    with pytest.raises(SettingsError, match="contradicts model_loss='nll'"):
        MBPOSettings(model_loss="nll", probabilistic=False)
    for loss in ("vagram", "mse"):
        with pytest.raises(SettingsError, match=f"asks for a variance that model_loss='{loss}' does not train"):
            MBPOSettings(model_loss=loss, probabilistic=True)
    assert MBPOSettings(model_loss="nll", probabilistic=True).has_variance_head
    assert not MBPOSettings(model_loss="vagram", probabilistic=False).has_variance_head


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("itervaml", {"mse_weight": -1.0}, r"\['mse_weight'\]=-1.0 .* of model_loss='itervaml' needs a number of at"),
        ("itervaml", {"mse_weight": "0.01"}, "needs a number"),
        ("taylor_hessian", {"hessian_weight": float("nan")}, "hessian_weight.*needs a number"),
        ("cvaml", {"model_samples": 1}, "model_samples.*needs a whole number of at least 2"),
        ("cvaml", {"model_samples": 2.5}, "needs a whole number"),
    ],
)
def test_unusable_options_of_the_loss_are_named(loss, options, message):
    with pytest.raises(ValueError, match=message):
        MBPOSettings(model_loss=loss, model_loss_options=options)


def test_one_set_of_options_serves_a_sweep_over_losses():
    options = {"mse_weight": 0.01}
    settings = [MBPOSettings(model_loss=loss, model_loss_options=options) for loss in ("vagram", "itervaml", "none")]
    options["mse_weight"] = 5.0  # the settings hold a copy
    assert [each.model_loss_options for each in settings] == [{"mse_weight": 0.01}] * 3
