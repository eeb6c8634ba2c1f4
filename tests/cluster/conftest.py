"""One Ray for the tests that need a true one."""

import importlib.util

import pytest

from mimicmotion.cluster import ray_actors

# Not imported here: Ray reads its environment when it is, once for all tests.
HAS_RAY = importlib.util.find_spec("ray") is not None
NO_RAY = "Ray is not installed (requirements-cluster.txt)"
needs_ray = pytest.mark.skipif(not HAS_RAY, reason=NO_RAY)
# A slow machine needs the tries that Ray makes by itself.
ENVIRONMENT = ray_actors.ENVIRONMENT | ray_actors.LOCAL_ENVIRONMENT | {"RAY_NUM_REDIS_GET_RETRIES": "20"}


@pytest.fixture(autouse=True)
def same_environment(monkeypatch):
    """Whichever test is the first to import Ray."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def ray_here():
    """A Ray of four cores and two GPUs, as it believes."""
    if not HAS_RAY:
        pytest.skip(NO_RAY)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        import ray

        options = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": ray_actors.STORE_BYTES}
        ray.init("local", include_dashboard=False, log_to_driver=False, configure_logging=False, **options)
        yield ray
        ray.shutdown()
