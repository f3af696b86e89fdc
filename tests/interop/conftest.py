from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import suite_process
from tests.rpc.conftest import bench as bench
from tests.suite_process import Suite


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The suite with an offline model that takes its time, so that a run can be cancelled midway."""
    with suite_process.started(tmp_path_factory.mktemp("suite"), {"DYNAMIC_AGENTS_ROUTER_OFFLINE_DELAY": "0.05"}) as up:
        yield up
