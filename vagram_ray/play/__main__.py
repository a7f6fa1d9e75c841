"""``python -m vagram_ray.play CHECKPOINT``."""

from vagram_ray.play.commandline import main

if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.play")
