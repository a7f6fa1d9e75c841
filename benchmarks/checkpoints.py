"""What a checkpoint costs: bytes on disk, bytes written when it follows another, and the time to write and read it.

    python -m benchmarks.checkpoints [--repeats 5] [--json FILE] [--folder FOLDER]

Agents at laptop and at paper size, their real buffers filled with random transitions. "first" writes everything,
"next" what came after ``step`` more environment steps. The share is what "next" takes of the time in which those
steps are trained, where a command line gives it. Needs no Ray.

Measured by ``--repeats 3`` on 2026-11-22, one core of a busy machine with two (times are upper bounds): MiB of a
checkpoint and of what the next one writes, seconds of the first, the next and of reading, median (lowest-highest)::

    laptop: Pendulum + 10, 8 seeds, 3,000 steps
        97.5     94.6    0.803 (0.771-1.468)    1.032 (0.643-1.429)    0.772 (0.760-1.097)
    paper: Hopper + 15, 1 seed, 100,000 steps
        122.9    100.9   0.782 (0.764-1.455)    0.586 (0.573-1.255)    0.744 (0.714-0.760)
    paper: Hopper + 15, 1 seed, 500,000 steps
        209.8    100.9   1.076 (0.901-1.706)    0.485 (0.348-0.870)    1.002 (0.782-1.152)
    paper: Hopper + 15, 8 seeds, 300,000 steps
        1330.8   807.2   9.459 (5.208-12.637)   7.225 (5.347-7.816)    7.622 (5.492-10.178)
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow.fs import LocalFileSystem

from vagram_ray.checkpoint import CheckpointHistory
from vagram_ray.checkpoint.folder import CheckpointFolder
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.settings import MBPOSettings

MIB = 2**20


@dataclass(frozen=True)
class Case:
    """An agent and how full its buffer is."""

    name: str
    num_seeds: int
    obs_dim: int
    action_dim: int
    env_steps: int
    step: int
    settings: MBPOSettings

    def agent(self) -> MBPOAgent:
        """An agent with random transitions."""
        agent = MBPOAgent(
            self.settings,
            seeds=range(self.num_seeds),
            obs_dim=self.obs_dim,
            action_dim=self.action_dim,
            termination=lambda obs, action, next_obs: torch.zeros(next_obs.shape[:-1], dtype=torch.bool),
        )
        fill(agent, self.env_steps)
        return agent


LAPTOP = MBPOSettings(
    num_layers=2, hidden_size=64, actor_hidden_sizes=(64, 64), critic_hidden_sizes=(64, 64), epoch_length=250
)
CASES = (
    Case("laptop: Pendulum + 10, 8 seeds, 3,000 steps", 8, 13, 1, 3_000, 250, LAPTOP),
    Case("paper: Hopper + 15, 1 seed, 100,000 steps", 1, 26, 3, 100_000, 1_000, MBPOSettings()),
    Case("paper: Hopper + 15, 1 seed, 500,000 steps", 1, 26, 3, 500_000, 1_000, MBPOSettings()),
    Case("paper: Hopper + 15, 8 seeds, 300,000 steps", 8, 26, 3, 300_000, 1_000, MBPOSettings()),
)


def fill(agent: MBPOAgent, steps: int) -> None:
    """Append random transitions without stepping an environment."""
    layout, generator = agent.replay.layout, np.random.default_rng(steps)
    seeds = len(agent.seeds)
    for _ in range(steps):
        agent.replay.add(
            generator.standard_normal((seeds, layout.obs_dim), dtype=np.float32),
            generator.standard_normal((seeds, layout.action_dim), dtype=np.float32),
            generator.standard_normal(seeds, dtype=np.float32),
            generator.standard_normal((seeds, layout.obs_dim), dtype=np.float32),
            np.zeros(seeds, dtype=bool),
        )


def measure(case: Case, repeats: int, folder: Path) -> dict[str, Any]:
    """Medians over the repeats."""
    agent = case.agent()
    first, following, reading, written = [], [], [], []
    size = 0
    for repeat in range(repeats):
        place = folder / str(repeat)
        place.mkdir()
        history = CheckpointHistory(LocalFileSystem(), str(place))
        first.append(_seconds(lambda history=history: _write(history, agent, 1)))
        size = _bytes_below(place)
        fill(agent, case.step)
        before = {path for path in place.rglob("*") if path.is_file()}
        following.append(_seconds(lambda history=history: _write(history, agent, 2)))
        written.append(sum(p.stat().st_size for p in place.rglob("*") if p.is_file() and p not in before))
        reading.append(_seconds(CheckpointHistory(LocalFileSystem(), str(place)).read_newest))
        shutil.rmtree(place)
    return {
        "case": case.name,
        "checkpoint_mib": size / MIB,
        "next_written_mib": statistics.median(written) / MIB,
        "first_s": _spread(first),
        "next_s": _spread(following),
        "read_s": _spread(reading),
    }


def _write(history: CheckpointHistory, agent: MBPOAgent, number: int) -> None:
    state = {"agent": agent.state_dict(with_transitions=False)}
    history.write(number, {"seeds": list(agent.seeds), "settings": {}}, state, agent.replay)


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def _bytes_below(folder: Path) -> int:
    assert CheckpointFolder(LocalFileSystem(), str(folder / "checkpoint_000001")).is_whole()
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the measurements there too")
    parser.add_argument("--folder", type=Path, help="where to write; the default is the temporary directory")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print("| agent | checkpoint (MiB) | next one writes (MiB) | first (s) | next (s) | read (s) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            row = measure(case, arguments.repeats, Path(folder))
        rows.append(row)
        times = [
            f"{row[k]['median']:.3f} ({row[k]['low']:.3f}-{row[k]['high']:.3f})"
            for k in ("first_s", "next_s", "read_s")
        ]
        print(
            f"| {case.name} | {row['checkpoint_mib']:.1f} | {row['next_written_mib']:.1f} | {' | '.join(times)} |",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
