"""One Ray for the tests that need a true one."""

import importlib.util

import pytest

from mimicmotion.cluster import ray_actors

# Not imported here: Ray reads its environment when it is.
HAS_RAY = importlib.util.find_spec("ray") is not None
NO_RAY = "Ray is not installed (requirements-cluster.txt)"
needs_ray = pytest.mark.skipif(not HAS_RAY, reason=NO_RAY)


@pytest.fixture(scope="session")
def ray_here():
    """A Ray of two cores with two GPUs that are none."""
    if not HAS_RAY:
        pytest.skip(NO_RAY)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ray_actors.ENVIRONMENT | ray_actors.LOCAL_ENVIRONMENT).items():
            patch.setenv(name, value)
        import ray

        options = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": ray_actors.STORE_BYTES}
        ray.init("local", include_dashboard=False, log_to_driver=False, configure_logging=False, **options)
        yield ray
        ray.shutdown()
