"""``python -m vagram_ray.sweep CONFIG.py``."""

from vagram_ray.sweep.commandline import main

if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.sweep")
