"""A small rendered capture of each species for the tests of the synthetic room."""

import pytest

from dkp.synthetic import synthesize


@pytest.fixture(scope="session", params=["human", "dog"])
def rendered(request, tmp_path_factory):
    """Two subjects, five instants each in clips of three, four cameras, 64 px."""
    path = tmp_path_factory.mktemp("synthetic") / request.param
    return synthesize(
        path,
        species=request.param,
        subjects=2,
        frames=5,
        clip=3,
        fps=30,
        cameras=4,
        size=64,
        seed=3,
        domain="target",
        workers=1,
    )
