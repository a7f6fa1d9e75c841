"""What a sweep will run, on what, and what that will need."""
