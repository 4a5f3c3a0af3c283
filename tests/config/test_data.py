"""The data sections."""

import pytest
from pydantic import ValidationError

from kvdistill.config.data import DataSection


@pytest.mark.parametrize("role", ["validation", "test"])
def test_only_training_is_streamed(role: str) -> None:
    rows = {"kind": "file", "path": "rows.jsonl"}
    with pytest.raises(ValidationError, match=rf"data\.{role}\.streaming: only training is streamed"):
        DataSection.model_validate({"train": rows, role: rows | {"streaming": True}})
    assert DataSection.model_validate({"train": rows | {"streaming": True}}).train.streaming
