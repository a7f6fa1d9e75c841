"""MBPO with value-gradient weighted model learning (VaGraM) as an RLlib algorithm and as Ray Tune sweeps."""

__version__ = "0.2.0"
