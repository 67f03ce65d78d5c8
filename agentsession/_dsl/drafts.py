"""Drafts: a class and the options of its decorator before they are verified."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin

import peewee

from agentsession import _registry
from agentsession._dsl.declare import where
from agentsession._dsl.declared_tools import DeclaredTool, declared_tools
from agentsession._options import Client
from agentsession._prompt import Template
from agentsession._schema import InputSchema, OutputSchema, Schema
from agentsession._tools.definition import Tool
from agentsession.actions.mixins import AgentActions, SessionActions


class Draft:
    """The class, and each option of the decorator as an attribute.

    It has no repr that shows the options, because a client may hold its key.
    """

    decorator: ClassVar[str]

    def __init__(self, model: Any, /, **options: Any) -> None:
        self.model = model
        vars(self).update(options)

    if TYPE_CHECKING:

        def __getattr__(self, option: str) -> Any: ...

    def where(self, option: str) -> str:
        return where(self.model, self.decorator, option)


class AgentDraft(Draft):
    """The declaration of an agent. Its options are parsed once."""

    decorator = "agent"

    @cached_property
    def parsed_client(self) -> Client:
        return Client.parse(self.client)

    @cached_property
    def parsed_template(self) -> Template:
        return Template(self.instruction)

    @cached_property
    def type_arguments(self) -> tuple[Any, Any]:
        return type_arguments(self.model)

    @property
    def input_or_argument(self) -> Any:
        """The input schema: the option, else the type argument of the mixin."""
        return self.type_arguments[0] if self.input_schema is None else self.input_schema

    @property
    def output_or_argument(self) -> Any:
        """The output schema: the option, else the type argument of the mixin."""
        return self.type_arguments[1] if self.output_schema is None else self.output_schema

    @cached_property
    def instruction_type(self) -> Schema:
        return Schema(dict[str, Any] if self.instruction_schema is None else self.instruction_schema)

    @cached_property
    def input_type(self) -> InputSchema:
        return InputSchema(self.input_or_argument)

    @cached_property
    def output_type(self) -> OutputSchema:
        return OutputSchema(self.output_or_argument)

    @cached_property
    def declared_tools(self) -> tuple[DeclaredTool, ...]:
        return declared_tools(self.model, self.tools)

    @cached_property
    def made_tools(self) -> tuple[tuple[str, Tool], ...]:
        """Each tool that could be made, with the option or attribute that declares it."""
        return tuple((each.option, each.tool) for each in self.declared_tools if each.tool is not None)

    @property
    def made_hooks(self) -> Any:
        """The object with the hooks, or None."""
        return self.hooks_or_error[0]

    @cached_property
    def hooks_or_error(self) -> tuple[Any, Exception | None]:
        """The object with the hooks, or what its class raised when it was called."""
        try:
            return (self.hooks() if isinstance(self.hooks, type) else self.hooks), None
        except Exception as error:
            return None, error


class ModelDraft(Draft):
    """A declaration that needs a Peewee model."""

    @property
    def is_model(self) -> bool:
        """Whether the class is a model with a table: `peewee.Model` itself has none."""
        is_class = isinstance(self.model, type)
        return is_class and issubclass(self.model, peewee.Model) and self.model is not peewee.Model

    @property
    def fields(self) -> dict[str, Any]:
        return self.model._meta.fields if self.is_model else {}


class SessionDraft(ModelDraft):
    """The declaration of a session."""

    decorator = "agent_session"


class MessageDraft(ModelDraft):
    """The declaration of a session's messages."""

    decorator = "agent_message"

    @cached_property
    def keys(self) -> list[Any]:
        """The foreign keys to session models."""
        keys = [field for field in self.fields.values() if isinstance(field, peewee.ForeignKeyField)]
        return [key for key in keys if _registry.session_of(key.rel_model) is not None]

    @cached_property
    def key(self) -> Any:
        """The foreign key to the session: of several, the one in the unique index with `seq`."""
        indexed = [key for key in self.keys if {key.name, "seq"} in self.unique]
        return next(iter(indexed or self.keys), None)

    @cached_property
    def unique(self) -> list[set[str]]:
        """The names of the fields of each unique index."""
        names = {field.column_name: field.name for field in self.fields.values()}
        found = []
        for index in self.model._meta.indexes:
            if isinstance(index, peewee.ModelIndex):
                columns = [getattr(column, "name", None) for column in vars(index)["_expressions"]]
                if vars(index)["_unique"]:
                    found.append({names.get(str(name), str(name)) for name in columns})
            elif isinstance(index, (list, tuple)) and len(index) == 2 and index[1]:
                found.append(set(index[0]))
        return found


def type_arguments(model: Any) -> tuple[Any, Any]:
    """Return the input and the output type of the mixin, as in `SessionActions[Ask, Answer]`.

    None stands for a missing argument, `Any`, a type variable without a value, and an input of the type
    `str`.
    """
    first, second = _along_bases(model) if isinstance(model, type) else (None, None)
    return (None if first is str else _known(first)), _known(second)


def _along_bases(base: Any) -> tuple[Any, Any]:
    origin, arguments = get_origin(base) or base, get_args(base)
    if origin in (AgentActions, SessionActions):
        first, second, *_ = (*arguments, None, None)
        return first, second
    if not isinstance(origin, type):
        return None, None
    values = list(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
    for above in vars(origin).get("__orig_bases__", origin.__bases__):
        found = _along_bases(above)
        if found != (None, None):
            return _substituted(found[0], values), _substituted(found[1], values)
    return None, None


def _substituted(argument: Any, values: list[tuple[Any, Any]]) -> Any:
    return next((value for variable, value in values if variable is argument), argument)


def _known(argument: Any) -> Any:
    return None if argument is Any or isinstance(argument, TypeVar) else argument
