"""A training that is done is not done again, and never goes by another's key."""

from __future__ import annotations

import pytest

from trueline.pipelines import finished
from trueline.pipelines.spec import write_atomically


class Spec:
    def __init__(self, folder):
        self.folder = folder


def test_a_training_cut_off_before_its_key_was_written_goes_by_no_earlier_key(tmp_path):
    write_atomically(tmp_path / finished.KEY, {"key": "before the code was changed"})

    def train(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finished.once(Spec(tmp_path), "after it was", train)
    assert not (tmp_path / finished.KEY).exists()
