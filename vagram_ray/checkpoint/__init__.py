"""Checkpoints that are written completely or not at all, and whose reading executes nothing.

Imports nothing of ours: a state goes in and comes out as nested dicts of tensors and plain values.
"""

from vagram_ray.checkpoint.errors import CheckpointError, DamagedCheckpointError, ForeignCheckpointError
from vagram_ray.checkpoint.folder import CheckpointFolder, read_checkpoint, write_checkpoint, write_pretrained
from vagram_ray.checkpoint.history import CheckpointHistory, Kept, newest_whole

__all__ = [
    "CheckpointError",
    "CheckpointFolder",
    "CheckpointHistory",
    "DamagedCheckpointError",
    "ForeignCheckpointError",
    "Kept",
    "newest_whole",
    "read_checkpoint",
    "write_checkpoint",
    "write_pretrained",
]
