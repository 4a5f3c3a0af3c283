"""What every section is: no unknown option, no change, kinds by default."""

import pytest
from pydantic import ValidationError

from kvdistill.config import ModelSection
from kvdistill.config.section import Section


def test_a_section_is_frozen_and_knows_its_options() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Section.model_validate({"more": 1})
    with pytest.raises(ValidationError, match="frozen"):
        ModelSection(name="x").name = "y"  # pyright: ignore


def test_an_option_without_its_kind_belongs_to_the_default_kind() -> None:
    assert ModelSection.model_validate({"name": "x", "tuning": {"r": 4}}).tuning.kind == "lora"
