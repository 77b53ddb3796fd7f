"""What pyproject.toml has no word for: in the wheel the folder `configs` lies inside of the package `benchmarks`."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["ddoq*", "baselines*", "benchmarks*"]),
        "benchmarks.configs",
    ],
    package_dir={"benchmarks.configs": "configs"},
)
