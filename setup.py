"""The parts of the package's description that pyproject.toml has no words for: folders that become part of it."""

from setuptools import find_packages, setup

DATA = {"mimicmotion.configs": "configs", "mimicmotion.assets": "assets"}

setup(
    packages=[*find_packages(include=["mimicmotion", "mimicmotion.*"]), *DATA],
    package_dir=DATA,
    package_data={
        "mimicmotion.evaluation": ["page.html"],
        "mimicmotion.gallery": ["page.html"],
        "mimicmotion.serving": ["page.html", "*.css", "*.js"],
        "mimicmotion.configs": ["*.yaml", "streaming/*.yaml", "svd_xt/*/*.json"],
        "mimicmotion.assets": [
            "models/weights.json",
            "models/puppet_pose_reader.*",
            "models/tiny/**/*",
            "models/world/*",
            "models/world_free/*",
            "streaming/*.png",
        ],
    },
)
