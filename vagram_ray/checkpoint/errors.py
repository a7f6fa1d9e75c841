"""Errors of checkpoints."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used. The sentence names it and the way out."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not as it was written: a file is missing, cut short or changed."""


class ForeignCheckpointError(CheckpointError):
    """A checkpoint is of a format that this version does not read."""
