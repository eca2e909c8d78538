"""The bar of a map: shown where somebody looks, silent elsewhere."""

from __future__ import annotations

import pytest

import shoal


async def test_it_counts(
    local: shoal.Local,
    here: shoal.Deployment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SHOAL_PROGRESS", "1")
    with pytest.raises(shoal.RunMapTasksFailedException):
        await shoal.run_map(lambda x: 1 // x, [0, 1, 2], local, None, here)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "1 failed" in shown
    async for _ in shoal.run_map_as_completed(lambda x: x, [1, 2], local, None, here):
        pass
    assert "2/2" in capsys.readouterr().err


async def test_it_is_silent_where_nobody_looks(
    local: shoal.Local,
    here: shoal.Deployment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("SHOAL_PROGRESS", raising=False)
    await shoal.run_map(lambda x: x, [1, 2], local, None, here)
    assert capsys.readouterr() == ("", "")
