from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import suite_process
from tests.suite_process import Suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with suite_process.started(tmp_path_factory.mktemp("suite")) as up:
        yield up
