"""C++ for whole updates and minibatches, compiled where it runs: it exists for speed alone.

The modules of ``core`` define the method. What lies here computes the same faster, is held equal to them by tests, and
can be deleted without touching them. The setting ``execution`` chooses.
"""
