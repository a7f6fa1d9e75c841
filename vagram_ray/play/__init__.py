"""Looking at what was learned: ``python -m vagram_ray.play CHECKPOINT``.

Plays the policy of a checkpoint, films it, and plays its learned model beside the real environment. Checkpoints are
read without Ray (``checkpoint.read_agent``), and nothing in them is executed.
"""
