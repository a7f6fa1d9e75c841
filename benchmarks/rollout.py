"""What imagining transitions costs: 100,000 one-step rollouts, stored.

    python -m benchmarks.rollout [--rounds 5] [--core 1] [--json FILE]

One seed, 5 elites of 4 x 200, Hopper's dimensions and termination, two sizes of the policy.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from benchmarks import timing
from benchmarks.agents import make_agent
from vagram_ray.core.model_rollouts import imagine
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs.terminations import hopper_terminates

ROLLOUTS = 100_000


def rollouts(width: int, count: int, loss: str) -> timing.Operation:
    """``count`` rollouts of one step."""
    settings = MBPOSettings(model_loss=loss, actor_hidden_sizes=(width, width), rollouts_per_step=count // 250 + 1)
    agent = make_agent(settings, 1, 5000)
    return lambda: imagine(
        agent.dynamics, agent.actor, hopper_terminates, agent.replay, agent.imagined,
        num_rollouts=count, rollout_length=1, streams=agent._streams["rollout"],
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    arguments = timing.parser(__doc__, rounds=5).parse_args(argv)
    timing.prepare(arguments)
    samples: list[timing.Samples] = []
    count = 100 if arguments.tiny else ROLLOUTS
    for width in (16,) if arguments.tiny else (256, 1024):
        sides: dict[str, timing.Factory] = {
            f"{loss}'s model": functools.partial(rollouts, width, count, loss) for loss in ("vagram", "nll")
        }
        samples += timing.measure(f"policy 2 x {width}", sides, rounds=arguments.rounds, repeats=1, warm_up=1).values()
    print(f"{count} one-step rollouts, one thread")
    timing.print_table(samples)
    timing.write_json(arguments.json, "rollout", samples, rollouts=count)


if __name__ == "__main__":
    main()
