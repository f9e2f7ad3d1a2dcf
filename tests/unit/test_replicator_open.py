"""The replicator beside a store it cannot read: it ends and is started again; it refuses
nothing.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from operators import replicator
from sda_pipeline.errors import ExitCode, SdaError
from sda_pipeline.state.environment import DATA_FILE
from sda_pipeline.state.recovery import CORRELATOR
from supervisor.tree import REFUSALS


@pytest.mark.parametrize("content", [None, b"damaged" * 4096])
def test_a_store_that_is_gone_or_damaged_stops_only_the_replicator(
    content: bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / CORRELATOR).mkdir()
        (tmp_path / CORRELATOR / DATA_FILE).write_bytes(content)
    worker = SimpleNamespace(
        topology=SimpleNamespace(state=tmp_path), beat=lambda _: None, event=lambda *_, **__: None
    )
    with pytest.raises(SdaError, match="opened again after a restart") as caught:
        replicator.run(worker)  # type: ignore[arg-type]
    assert caught.value.exit_code is ExitCode.INTERNAL
    assert caught.value.exit_code not in REFUSALS
