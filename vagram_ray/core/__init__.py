"""The method, as in the papers: pure PyTorch and NumPy, every tensor with a leading seed axis.

Read it in the order of Algorithm 1 of Voelcker et al. (ICLR 2022): ``mbpo`` (the loop), ``model_fitting``
with ``dynamics``, ``model_losses`` and ``value_gradients``, ``model_rollouts``, ``sac``.
"""

# Registers its losses, so that whoever sees the registry sees all of them.
from vagram_ray.core import value_aware_losses as value_aware_losses
