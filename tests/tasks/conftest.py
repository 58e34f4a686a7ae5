"""What the tests of tasks share."""

import pytest

from trainer.config import registry


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the losses, metrics and tasks that a test registers."""
    for group in ("loss", "metric", "task"):
        monkeypatch.setitem(registry._registry, group, dict(registry._registry[group]))
