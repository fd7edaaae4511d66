"""Plans of small slides."""

import pytest

from her2d.simulator.plan import plan_slide


@pytest.fixture(scope="session")
def positive():
    return plan_slide("pos", 7, her2_status="positive", width=2560, height=2048)
