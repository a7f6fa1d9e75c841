"""``python -m vagram_ray.sweep.wandb FOLDER``."""

from vagram_ray.sweep.wandb.commandline import main

if __name__ == "__main__":
    main()
