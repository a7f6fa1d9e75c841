"""Parts of Ray that this package needs and that are not public, each with its reason. Nothing else imports them.

Besides, ``rllib/`` overrides or reads private members of the classes that it derives from, for which RLlib has no
public place. A new version of Ray has to be tried against these, too:

- ``algorithm.py``: ``_storage`` (where checkpoints lie), ``_stderr_fp`` (the trial's log), ``_iteration`` and
  ``_time_total`` (counters of an exact resume), ``learner_group._learner`` (the only learner, which is local),
  ``_before_evaluate``, ``_get_env_id_and_creator``, ``_should_create_evaluation_env_runners`` and
  ``_compile_iteration_results`` (the environments and results of seeds that are trained together).
- ``learner.py``: ``_weights_seq_no``. ``checkpointing.py``: ``_iteration`` and ``_time_total``.
"""

from __future__ import annotations

import pickle
from typing import Any


def error_of(trial: Any) -> Exception:
    """Why a trial has failed, as Ray told Tune.

    Tune's callbacks get the trial without the error, and the public ``Result.error`` exists when all trials have ended.
    """
    path = trial.pickled_error_file
    try:
        with open(path, "rb") as file:
            error: Exception = pickle.load(file)  # Tune wrote it a moment ago, in this process
        return error
    except Exception:  # no error of Ray's, a full disk, or a class that this process does not have
        text = ""
        if trial.error_file:
            try:
                with open(trial.error_file, encoding="utf-8", errors="replace") as file:
                    text = file.read()
            except OSError:
                pass
        return RuntimeError(text.strip() or "Tune tells no reason")


def time_attribute(scheduler: Any) -> str:
    """The key of a result that a scheduler of Tune takes for the time; ``training_iteration`` where it has none.

    Schedulers do not tell, and one that looks at a key that is not there does nothing, without a word.
    """
    return str(getattr(scheduler, "_time_attr", "training_iteration"))


def nothing_saved() -> Any:
    """What ``Trainable.save`` returns to Tune where a trial has written its checkpoint elsewhere.

    ``Trainable.save_checkpoint``, which is public, cannot tell: Tune would copy its folder, also an empty one, into the
    experiment's, which other machines need not see.
    """
    from ray.train._internal.session import _TrainingResult

    return _TrainingResult(checkpoint=None, metrics={})


def address_of_last_start() -> str | None:
    """The address that ``ray start`` has left on this machine, for ``ray.init("auto")``.

    ``ray.init`` would connect to it, whosever cluster it is and however long that takes.
    """
    from ray._private.utils import read_ray_address

    try:
        return read_ray_address() or None
    except (OSError, ValueError):  # somebody else's
        return None


def registered_environment(name: str) -> Any:
    """What ``ray.tune.register_env`` has under this name, None if nothing.

    There is no public way to look up what the public function has put there.
    """
    from ray.tune.registry import ENV_CREATOR, _global_registry

    known = _global_registry.contains(ENV_CREATOR, name)
    return _global_registry.get(ENV_CREATOR, name) if known else None


def registered_environments() -> frozenset[str]:
    """Names that this process has given to ``ray.tune.register_env``."""
    from ray.tune.registry import ENV_CREATOR, _global_registry

    keys = (*_global_registry._to_flush, *_global_registry._registered)
    return frozenset(name for category, name in keys if category == ENV_CREATOR)
