"""The model's open-loop predictions and their weights, against NumPy and against hand-made cases."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from vagram_ray.envs import SeedVectorEnv
from vagram_ray.play.checkpoint import SavedAgent, policy, read_agent
from vagram_ray.play.dimensions import dimension_names
from vagram_ray.play.episodes import Episode, play_episodes
from vagram_ray.play.model_view import Forecast, ModelView, choose_starts, open_loop, value_weights, view_model


@pytest.fixture(scope="module")
def saved(pendulum) -> SavedAgent:
    return read_agent(pendulum.folder, 5)


@pytest.fixture(scope="module")
def episodes(saved: SavedAgent) -> list[Episode]:
    return play_episodes(policy(saved.actor()), SeedVectorEnv(saved.environment, (5,), evaluation=True), 2)


@pytest.fixture(scope="module")
def view(saved: SavedAgent, episodes: list[Episode]) -> ModelView:
    names = dimension_names("Pendulum-v1", 7, 4)
    return view_model(saved.dynamics(), saved.values(), episodes, names, 4, horizon=12, max_starts=20)


# -- the same networks in NumPy --------------------------------------------------------------------------------


def layers(network, row: int) -> list[tuple[np.ndarray, np.ndarray]]:
    views = [view.detach().double().numpy()[row] for view in network.views]
    return list(zip(views[0::2], views[1::2], strict=False))[: network.num_layers]


def forward(parameters: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, activation) -> np.ndarray:
    for weight, bias in parameters[:-1]:
        x = activation(x @ weight + bias[0])
    weight, bias = parameters[-1]
    return x @ weight + bias[0]


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def test_predictions_are_those_of_each_elite_on_its_own(pendulum, saved, episodes, view) -> None:
    dynamics = pendulum.agent.dynamics  # the cohort's: seed 5 is its second
    mean, std = (part[1, 0].double().numpy() for part in (dynamics.input_mean, dynamics.input_std))
    for e, elite in enumerate(dynamics.elites[1].tolist()):
        network = layers(dynamics.network, 3 + elite)
        for m, (episode, start) in enumerate(view.starts):
            state = episodes[episode].obs[start].astype(np.float64)
            for h in range(12):
                action = episodes[episode].actions[start + h]
                output = forward(network, (np.concatenate([state, action]) - mean[0]) / std[0], silu)
                state = state + output[:7]
                np.testing.assert_allclose(view.forecast.states[e, m, h], state, rtol=1e-3, atol=1e-3)
                np.testing.assert_allclose(view.forecast.rewards[e, m, h], output[7], rtol=1e-3, atol=1e-3)


def test_the_real_course_and_its_starts(episodes, view) -> None:
    assert len(view.starts) == 20 and view.starts[0].tolist() == [0, 0] and view.starts[-1].tolist() == [1, 188]
    for m, (episode, start) in enumerate(view.starts):
        np.testing.assert_array_equal(view.first[m], episodes[episode].obs[start])
        np.testing.assert_array_equal(view.real[m], episodes[episode].obs[start + 1 : start + 13])
        np.testing.assert_array_equal(view.real_reward[m], episodes[episode].rewards[start : start + 12])


def test_weights_are_mean_squared_clipped_value_gradients(pendulum, episodes, view) -> None:
    """Central differences of the four critics in NumPy, clipped at the 95th percentile of all played states."""
    sac = pendulum.agent.sac
    mean, std = (part[1, 0].double().numpy() for part in (sac.actor.scale.obs_mean, sac.actor.scale.obs_std))
    obs = np.concatenate([episode.obs[1:] for episode in episodes]).astype(np.float64)
    action = np.tanh(forward(layers(sac.actor.network, 1), (obs - mean) / std, relu)[:, :1])
    gradients = []
    for critic in (sac.critic, sac.target_critic):
        for k in (0, 1):
            network = layers(critic.network, 2 + k)

            def value(at: np.ndarray, network=network) -> np.ndarray:
                return forward(network, np.concatenate([(at - mean) / std, action], axis=1), relu)[:, 0]

            steps = 1e-6 * np.eye(7)
            gradient = np.stack([(value(obs + step) - value(obs - step)) / 2e-6 for step in steps], axis=1)
            norms = np.linalg.norm(gradient, axis=1)
            gradients.append(gradient * np.minimum(1, np.percentile(norms, 95) / norms)[:, None])
    weights = np.mean(np.square(gradients), axis=0)
    lengths = np.cumsum([0] + [len(episode) for episode in episodes])
    expected = np.stack([weights[lengths[e] + t : lengths[e] + t + 12] for e, t in view.starts])
    close = np.isclose(view.weights, expected, rtol=2e-3, atol=1e-9 + 2e-3 * expected.max())
    assert close.mean() > 0.999  # a kink of a ReLU may lie between two differences


# -- numbers by hand -------------------------------------------------------------------------------------------


def made_by_hand() -> ModelView:
    """Two starts, three steps (the second start's episode ends after two), one task dimension and one distractor."""
    nan = np.nan
    real = np.array([[[1, 10], [2, 10], [3, 10]], [[1, 14], [1, 16], [nan, nan]]])
    states = np.array(
        [
            [[[1, 12], [2, 12], [3, 12]], [[1, 12], [1, 12], [9, 9]]],
            [[[1, 12], [2, 12], [5, 12]], [[3, 12], [1, 12], [9, 9]]],
        ],
        dtype=float,
    )
    weights = np.where(np.isfinite(real), np.array([4.0, 0.25]), nan)
    return ModelView(
        names=("x", "distractor 0"),
        num_distractors=1,
        starts=np.array([[0, 0], [0, 5]]),
        first=np.array([[0.0, 12.0], [0.0, 12.0]]),
        real=real,
        real_reward=np.array([[0, 0, 0], [0, 0, nan]]),
        forecast=Forecast(states, np.ones((2, 2, 3))),
        weights=weights,
        deviation=np.array([2.0, 4.0]),
    )


def test_errors_by_hand() -> None:
    view = made_by_hand()
    assert view.is_distractor.tolist() == [False, True]
    assert view.counts.tolist() == [2, 2, 1]
    # x: one of four predictions is off by 2 at h = 1, none at h = 2, one of two by 2 at h = 3
    np.testing.assert_allclose(view.error[:, 0], np.sqrt([1.0, 0.0, 2.0]))
    np.testing.assert_allclose(view.error[:, 1], np.sqrt([4.0, (4 + 16) / 2, 4.0]))
    np.testing.assert_allclose(view.error[:, 2], 1.0)
    np.testing.assert_allclose(view.change[:, 0], np.sqrt([1.0, (4 + 1) / 2, 9.0]))
    np.testing.assert_allclose(view.change[:, 1], np.sqrt([4.0, 10.0, 4.0]))
    np.testing.assert_allclose(view.relative_error[:, 1], 1.0)  # it predicts that nothing changes
    np.testing.assert_allclose(view.spread[:, 0], [np.sqrt(0.5), 0.0, 1.0])
    task, distractor = view.summary()
    assert (task.is_distractor, distractor.is_distractor) == (False, True)
    assert (task.one_step, distractor.one_step) == (1.0, 1.0)
    assert task.horizon == pytest.approx(np.sqrt((1 + 0 + 2) / (1 + 2.5 + 9)))
    assert task.sensitivity == pytest.approx(4 * 4 / (4 * 4 + 0.25 * 16))
    assert task.weighted_one_step == pytest.approx(4 * 1 / (4 * 1 + 0.25 * 4))
    assert task.weighted_horizon == pytest.approx(4 * 3 / (4 * 3 + 0.25 * 18))
    assert distractor.weighted_horizon == pytest.approx(1 - task.weighted_horizon)


def test_the_csv_has_every_number() -> None:
    view = made_by_hand()
    rows = list(csv.DictReader(io.StringIO(view.csv_text())))
    assert [(row["name"], int(row["step"])) for row in rows] == [
        (name, step) for name in ("x", "distractor 0", "reward") for step in (1, 2, 3)
    ]
    assert [int(row["num_starts"]) for row in rows[:3]] == [2, 2, 1]
    assert [row["distractor"] for row in rows] == ["0"] * 3 + ["1"] * 3 + ["0"] * 3
    np.testing.assert_allclose([float(row["error"]) for row in rows[:3]], view.error[:, 0])
    np.testing.assert_allclose([float(row["weighted_error"]) for row in rows[3:6]], 0.25 * view.error[:, 1] ** 2)
    assert rows[-1]["weight"] == rows[-1]["relative_error"] == ""
    assert float(rows[-1]["error"]) == 1.0


def test_a_dimension_that_never_changes_has_no_relative_error() -> None:
    view = made_by_hand()
    still = view.real.copy()
    still[..., 0] = np.where(np.isfinite(still[..., 0]), 0.0, np.nan)
    constant = ModelView(**{**vars(view), "real": still})
    assert np.isnan(constant.relative_error[:, 0]).all()
    assert np.isnan(constant.summary()[0].one_step) and np.isfinite(constant.summary()[1].one_step)


@pytest.mark.parametrize(
    ("lengths", "horizon", "max_starts", "expected"),
    [
        ([10], 4, 100, [(0, t) for t in range(7)]),
        ([10], 4, 3, [(0, 0), (0, 3), (0, 6)]),
        ([3], 10, 100, [(0, 0), (0, 1)]),  # a short episode: half of it is enough
        ([1], 10, 100, [(0, 0)]),
        ([4, 10], 4, 100, [(0, t) for t in range(3)] + [(1, t) for t in range(7)]),
    ],
)
def test_start_states(lengths, horizon, max_starts, expected) -> None:
    assert list(map(tuple, choose_starts(lengths, horizon, max_starts).tolist())) == expected


def test_episodes_shorter_than_the_horizon(saved, episodes) -> None:
    cut = [Episode(e.obs[: n + 1], e.actions[:n], e.rewards[:n], True) for e, n in zip(episodes, (6, 3), strict=True)]
    view = view_model(saved.dynamics(), saved.values(), cut, dimension_names("Pendulum-v1", 7, 4), 4, horizon=50)
    assert view.horizon == 6
    assert view.starts.tolist() == [[0, t] for t in range(4)] + [[1, 0], [1, 1]]
    assert view.counts.tolist() == [6, 6, 5, 3, 2, 1]
    assert all(np.isfinite(line[2:]).all() for line in view.summary())


def test_weights_are_cut_by_episode(saved, episodes) -> None:
    parts = value_weights(saved.values(), [episode.obs[1:] for episode in episodes])
    whole = value_weights(saved.values(), [np.concatenate([episode.obs[1:] for episode in episodes])])
    np.testing.assert_array_equal(np.concatenate(parts), whole[0])
    assert [part.shape for part in parts] == [(200, 7), (200, 7)]


def test_a_variance_head_predicts_with_its_mean(make_checkpoint) -> None:
    made = make_checkpoint(model_loss="nll")
    saved = read_agent(made.folder)
    obs = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    actions = np.zeros((4, 1, 1), dtype=np.float32)
    forecast = open_loop(saved.dynamics(), obs, actions)
    dynamics = made.agent.dynamics
    mean, std = (part[0, 0].double().numpy() for part in (dynamics.input_mean, dynamics.input_std))
    for e, elite in enumerate(dynamics.elites[0].tolist()):
        output = forward(layers(dynamics.network, elite), (np.append(obs, actions[:, 0], 1) - mean) / std, silu)
        np.testing.assert_allclose(forecast.states[e, :, 0], obs + output[:, :3], rtol=1e-4, atol=1e-4)


def test_names_of_dimensions() -> None:
    import gymnasium

    for env_id, name in (("Hopper-v4", "foot ω"), ("Walker2d-v5", "left foot ω"), ("HalfCheetah-v4", "front foot ω"),
                         ("Ant-v4", "ankle 4 ω"), ("Swimmer-v4", "rotor 2 ω"), ("InvertedPendulum-v4", "pole ω"),
                         ("ContinuousCartPole-v0", "pole ω"), ("Pendulum-v1", "ω")):  # fmt: skip
        obs_dim = gymnasium.make(env_id).observation_space.shape[0]
        names = dimension_names(env_id, obs_dim + 2, 2)
        assert names[-3:] == (name, "distractor 0", "distractor 1")
        assert len(set(names)) == obs_dim + 2
    assert dimension_names("package:Hopper-v4", 11, 0)[0] == "height"
    assert dimension_names("Hopper-v4", 12, 0) == tuple(f"obs {i}" for i in range(12))
    assert dimension_names("Mine-v3", 3, 1) == ("obs 0", "obs 1", "distractor 0")
