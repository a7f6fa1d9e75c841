"""Where a sweep lies, and who may write there."""
