"""Calls of RLlib's ``Algorithm`` that ``MBPO`` has no use for: each says what to call instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ASK_THE_MODULE = (
    "ask the policy itself: algo.get_module().select_seed(0).forward_inference({'obs': obs}), with obs a tensor "
    "(B, D), returns the actions in [-1, 1] under 'actions'"
)
_EXPORT = (
    "algo.get_module().save_to_path(path) writes the policies as an RLModule, and examples/policy_for_deployment.py "
    "writes one that needs NumPy alone"
)
_ONE_MODULE = "MBPO trains one module, which holds the policies of all seeds"
_ONLINE = "MBPO collects its own transitions; evaluate() plays in the environment"

CALLS_WITHOUT_USE: dict[str, str] = {
    "compute_single_action": _ASK_THE_MODULE,
    "compute_actions": _ASK_THE_MODULE,
    "get_policy": "algo.get_module() returns the policies of all seeds, select_seed(0) of it those of the first",
    "export_model": _EXPORT,
    "export_policy_model": _EXPORT,
    "export_policy_checkpoint": _EXPORT,
    "add_module": _ONE_MODULE,
    "remove_module": _ONE_MODULE,
    "add_policy": _ONE_MODULE,
    "remove_policy": _ONE_MODULE,
    "evaluate_offline": _ONLINE,
}
"""Name of the method, and what to do instead."""


def refusing(name: str) -> Callable[..., Any]:
    """The method of that name, which refuses in one sentence.

    Raises:
        NotImplementedError: When it is called.
    """

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.{name} is not usable: {CALLS_WITHOUT_USE[name]}.")

    method.__name__ = name
    method.__doc__ = f"Not usable: {CALLS_WITHOUT_USE[name]}."
    return method
