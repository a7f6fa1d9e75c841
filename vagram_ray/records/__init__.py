"""What a sweep leaves on disk, written and read in one place; needs neither Ray nor PyTorch."""
