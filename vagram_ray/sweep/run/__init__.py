"""Running planned trials with Ray Tune."""
