"""The card of an exported agent: environment, settings, return, command and commit, in Markdown.

The lines between ``---`` at its top are what Hugging Face shows and searches by. Elsewhere they do no harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from scipy import stats

from vagram_ray.play.checkpoint import SavedAgent
from vagram_ray.play.episodes import Episode
from vagram_ray.records import SweepError, SweepFolder
from vagram_ray.records.publish import without_folders
from vagram_ray.records.task_line import describe_task
from vagram_ray.text import format_number, format_value, markdown_row

CONFIDENCE = 0.95


def describe_origin(agent: SavedAgent, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Where an agent comes from and what it reaches, as plain data: what of it is not known is left out."""
    return {**agent.origin, **_sweep(agent), "evaluation": _evaluation(episodes)}


def _sweep(agent: SavedAgent) -> dict[str, Any]:
    """What the sweep says whose trial the checkpoint is of."""
    trial = agent.folder.absolute().parent
    try:
        info = SweepFolder(trial.parent).read()
    except (FileNotFoundError, SweepError):
        return {}
    cell = next((own["cell"] for own in info["trials"] if own["name"] == trial.name), None)
    if cell is None:
        return {}
    known: dict[str, Any] = {key: info[key] for key in ("name", "scale", "started", "versions") if key in info}
    launches = info.get("launches") or [info]  # nothing tells which of them the trial had a part in
    for key in ("command", "git_commit"):
        if texts := dict.fromkeys(without_folders(str(launch[key])) for launch in launches if launch.get(key)):
            known[key] = ", then ".join(texts)
    return {**known, "cell": info["cells"][cell]["label"]}


def _evaluation(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Mean return with the interval of Student's t distribution over episodes."""
    returns = np.array([episode.episode_return for episode in episodes])
    mean, error = float(returns.mean()), float(returns.std(ddof=1) / np.sqrt(len(returns)))
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(returns) - 1)) * error
    ends = f"[{format_number(mean - reach)}, {format_number(mean + reach)}]"
    return {
        "episodes": len(episodes),
        "returns": [round(float(value), 3) for value in returns],
        "mean_return": mean,
        "standard_deviation": float(returns.std(ddof=1)),
        "low_95": mean - reach,
        "high_95": mean + reach,
        "mean_length": float(np.mean([len(episode) for episode in episodes])),
        "text": f"{format_number(mean)} {ends} over {len(episodes)} episodes",
    }


def card(agent: SavedAgent, settings: Mapping[str, Any], origin: Mapping[str, Any], name: str) -> str:
    """The card as Markdown.

    Args:
        agent: The agent.
        settings: Its settings by name, as ``config.json`` holds them.
        origin: ``describe_origin``.
        name: Of its folder.
    """
    rows = [markdown_row([title, text]) for title, text in _facts(agent, settings, origin)]
    parts = "actor, critics and model" if agent.settings.model_based else "actor and critics"
    model = " --model" if agent.settings.model_based else ""
    lines = [
        "---",
        yaml.safe_dump(_metadata(agent, origin, name), sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {agent.title}",
        "",
        f"An agent trained with `vagram_ray`: {parts} of one seed, with their settings, as safetensors and JSON.",
        "Optimizers and buffers are left out, so it can be played and not trained on. Reading it executes nothing.",
        "",
        "```sh",
        f"python -m vagram_ray.play FOLDER --video policy.mp4{model}",
        "```",
        "",
        "`FOLDER` is this folder, or `hf://OWNER/NAME` where it lies on Hugging Face. In Python,",
        "`vagram_ray.play.checkpoint.read_agent(FOLDER)` gives networks and settings.",
        "",
        "| | |",
        "| --- | --- |",
        *rows,
        "",
        "The return is that of the deterministic policy on its evaluation environment, as a mean with a 95 % interval",
        "over episodes (Student's t distribution). `config.json` holds every setting, `state.json` all returns.",
    ]
    return "\n".join(lines) + "\n"


def _facts(agent: SavedAgent, settings: Mapping[str, Any], origin: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    environment, evaluation = agent.environment, origin["evaluation"]
    yield "environment", environment.env_id
    if environment.env_kwargs:
        yield "its arguments", format_value(dict(environment.env_kwargs))
    if environment.num_distractors:
        yield "distractors", f"{environment.num_distractors} ({settings.get('distractor_process', 'paper')})"
    yield "task", describe_task([settings], [{}])
    yield "model loss", agent.settings.model_loss
    yield "environment steps", f"{agent.env_steps:,}"
    yield "seed", str(agent.seed)
    yield "return", evaluation["text"]
    yield "episode length", format_number(evaluation["mean_length"])
    yield "sweep", ", ".join(origin[key] for key in ("name", "scale", "cell") if origin.get(key)) or "not of a sweep"
    yield "command", origin.get("command", "not recorded")
    yield "commit", origin.get("git_commit", "not recorded")
    yield "started", origin.get("started", "not recorded")
    if "versions" in origin:
        yield "versions", ", ".join(f"{name} {number}" for name, number in origin["versions"].items())


def _metadata(agent: SavedAgent, origin: Mapping[str, Any], name: str) -> dict[str, Any]:
    evaluation = origin["evaluation"]
    value = f"{evaluation['mean_return']:.2f} +/- {evaluation['standard_deviation']:.2f}"
    env_id = agent.environment.env_id
    result = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": env_id, "type": env_id},
        "metrics": [{"type": "mean_reward", "value": value, "name": "mean_reward", "verified": False}],
    }
    return {
        "library_name": "vagram_ray",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "model-based-reinforcement-learning", "mbpo", env_id],
        "model-index": [{"name": name, "results": [result]}],
    }
