"""How much of VaGraM's lead is the reward head? Figures 3 and 4 with one difference from the baseline at a time.

``vagram`` differs from ``nll`` in its value weights, in being deterministic (as ``mse`` is) and in the reward, which
has weight 1 in ``vagram`` and ``mse`` and is one of D + 1 outputs in ``nll`` (``reward_weight``, docs/losses.md). Each
agent changes one of these, and "limit of 60 fit epochs" ends the baseline's fits early. All other settings are the
same for all. Run it with ``python -m vagram_ray.sweep tune_configs/attribution.py --scale smoke|laptop|paper``.
"""

from vagram_ray.rllib import MBPOConfig, laptop_settings, published_settings, smoke_settings
from vagram_ray.sweep import Scale, Sweep

config = MBPOConfig().environment("Hopper-v4").evaluation(evaluation_interval=1, evaluation_duration=10)

AGENTS = {
    "vagram": {"model_loss": "vagram"},
    "vagram + reward per output": {"model_loss": "vagram", "reward_weight": "per_output"},  # the likelihood's
    "mse": {"model_loss": "mse"},  # its reward has VaGraM's weight of 1 anyway
    "nll": {"model_loss": "nll"},
    "nll + normalised rewards": {"model_loss": "nll", "normalize_reward_targets": True},
    "nll + reward weight 1": {"model_loss": "nll", "reward_weight": 1.0},  # VaGraM's
    "nll + limit of 60 fit epochs": {"model_loss": "nll", "model_max_epochs": 60},
    "sac": {"model_loss": "none"},
}

# What agents and difficulties differ in is left to them: a scale's settings would win.
MODEL_SIZE, MIX = ("num_layers", "hidden_size"), ("rollout_length", "real_ratio")
FIGURE_3, FIGURE_4 = (published_settings("Hopper", distractors=distractors) for distractors in (False, True))
FIGURE_3_MIX = {key: FIGURE_3[key] for key in MIX}
FIGURE_4_SETTINGS = {key: FIGURE_4[key] for key in (*MODEL_SIZE, *MIX)}
PAPER = {key: value for key, value in FIGURE_3.items() if key not in (*MODEL_SIZE, *MIX, "model_max_epochs")}
PAPER_DIFFICULTIES = {
    **{f"{number} distractors": {**FIGURE_4_SETTINGS, "num_distractors": number} for number in (5, 10, 15)},
    "3x64 model": {**FIGURE_3_MIX, "num_layers": 3, "hidden_size": 64},
    "2x64 model": {**FIGURE_3_MIX, "num_layers": 2, "hidden_size": 64},
}


def laptop_difficulty(num_distractors: int, num_layers: int, hidden_size: int) -> dict[str, int]:
    """Distractors and the size of the model."""
    return {"num_distractors": num_distractors, "num_layers": num_layers, "hidden_size": hidden_size}


LAPTOP_DIFFICULTIES = {
    "0 distractors": laptop_difficulty(0, 2, 64),
    "5 distractors": laptop_difficulty(5, 2, 64),
    "10 distractors": laptop_difficulty(10, 2, 64),
    "1x16 model": laptop_difficulty(0, 1, 16),
    "1x8 model": laptop_difficulty(0, 1, 8),
}

SMOKE, LAPTOP = (
    {key: value for key, value in settings.items() if key not in (*MODEL_SIZE, "model_max_epochs")}
    for settings in (smoke_settings(), laptop_settings())
)

# The question is the paper's, so the mix is: mostly imagined data, rollouts of one step.
LAPTOP |= {"rollout_length": (20, 150, 1, 1), "real_ratio": (0, 2, 1.0, 0.05)}

SWEEP = Sweep(
    name="attribution",
    description="How much of VaGraM's lead over maximum likelihood is the reward head, the limit, the variance head?",
    config=config,
    variants={"difficulty": PAPER_DIFFICULTIES, "agent": AGENTS},
    seeds=16,
    epochs=300,
    scales={
        "smoke": Scale(
            epochs=2,
            seeds=1,
            overrides={**SMOKE, "env": "Pendulum-v1", "evaluation_duration": 1},
            variants={"difficulty": {"5 distractors": LAPTOP_DIFFICULTIES["5 distractors"]}},
        ),
        "laptop": Scale(
            epochs=13,
            overrides={**LAPTOP, "env": "Pendulum-v1", "evaluation_duration": 5},
            variants={"difficulty": LAPTOP_DIFFICULTIES},
        ),
        "paper": Scale(overrides=PAPER),
    },
)
