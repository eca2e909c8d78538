"""What every model of the custom resources has in common.

A spec forbids unknown fields and is frozen; a status ignores unknown fields, since a newer operator
may write more than this SDK knows. Rules across fields (`rules`) are checked here and, through the
JSON schema, by the API server.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from .rules import Rule, camel
from .validation import explain


class Model(BaseModel):
    """A part of a spec: snake_case attributes, camelCase in manifests, nothing unknown."""

    model_config = ConfigDict(
        alias_generator=camel, populate_by_name=True, extra="forbid", frozen=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise explain(self._owner(fields), error) from None

    @classmethod
    def _owner(cls, fields: dict[str, Any]) -> str:
        """Name the model in errors."""
        return cls.__name__

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                at = [rule.field] if rule.field else []
                message = rule.message.replace("{", "{{").replace("}", "}}")
                raise PydanticCustomError("rule", message, {"at": at})
        return self

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read what stands in a manifest; raise InvalidResource naming the field and the remedy."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise explain(cls._owner(data), error) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's form: camelCase, only what was set, no None."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        if cls.rules:
            schema["x-kubernetes-validations"] = [rule.schema() for rule in cls.rules]
        return schema


class StatusModel(Model):
    """A part of a status: what this version does not know is passed over."""

    model_config = ConfigDict(extra="ignore")
