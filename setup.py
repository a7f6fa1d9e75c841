"""What ``pyproject.toml`` cannot say: the sweep files of the paper lie in ``tune_configs/`` and go into the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithSweepFiles(build_py):
    """Puts ``tune_configs/*.py`` into a wheel as ``vagram_ray/tune_configs/``.

    An editable installation needs no copy: ``vagram_ray.sweep.sweep_file`` finds the folder in the clone. So there is
    one source of these files, at the top where they are read.
    """

    def run(self) -> None:
        """Build as always, then copy the sweep files."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "vagram_ray" / "tune_configs"
            self.mkpath(str(target))
            for file in sorted(Path("tune_configs").glob("*.py")):
                self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": BuildWithSweepFiles})
