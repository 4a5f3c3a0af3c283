"""Base class of the sections of a configuration."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from kvdistill.console.paths import expanded

UserPath = Annotated[str, AfterValidator(expanded)]
"""A path or hub name; a leading ``~`` is expanded."""


class Section(BaseModel):
    """A section of the configuration: frozen, and unknown options are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, given: Any) -> Any:
        """Options of a method given without ``kind`` belong to the default kind."""
        if not isinstance(given, dict):
            return given
        full = dict(given)
        for name, value in given.items():
            field = cls.model_fields.get(name)
            if (
                field is not None
                and field.discriminator
                and isinstance(value, dict)
                and not field.is_required()
            ):
                default = field.get_default(call_default_factory=True, validated_data={})
                if default is not None:
                    full[name] = {"kind": default.kind} | value
        return full
