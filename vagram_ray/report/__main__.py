"""``python -m vagram_ray.report``."""

from vagram_ray.report.commandline import main

if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.report")
