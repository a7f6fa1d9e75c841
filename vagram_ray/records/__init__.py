"""What a sweep leaves on disk, written and read in one place; needs neither Ray nor PyTorch."""

from vagram_ray.records.errors import SweepError
from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.results import SweepResults, TrialRecords

__all__ = ["SweepError", "SweepFolder", "SweepResults", "TrialRecords"]
