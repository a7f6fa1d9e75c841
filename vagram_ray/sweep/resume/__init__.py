"""Going on with a sweep that an earlier launch has begun."""
