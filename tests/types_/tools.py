"""What `@tool` leaves of a function: all of it."""

from typing import Any, assert_type

from agentsession import Halt, Tokens, Tool, ToolContext, agent, tool


@tool
def find(text: str, limit: int = 5) -> list[str]:
    return [text] * limit


@tool(timeout=3, idempotent=True, needs_approval=lambda arguments: True, result_limit=Tokens(100))
async def afind(text: str, where: ToolContext) -> str:
    where.report({"done": 1})
    return text + where.call


class Shop:
    @tool
    @classmethod
    def open(cls, day: str) -> str:
        return day

    @staticmethod
    @tool(sequential=True, repeat_limit=2)
    def close() -> Halt:
        return Halt("closed")


assert_type(find("x"), list[str])
assert_type(Shop.open("x"), str)
assert_type(Shop.close(), Halt)

written = Tool(name="it", description="It.", parameters={}, function=find, repeat_limit=None)
assert_type(written.accept("{}"), dict[str, Any])
assert_type(written.limited([], "[]"), str)
agent(client="echo:", instruction="", tools=[find, afind, Shop.open, written], on_tool_error="halt")

find(3)  # error
tool(timeout="3")  # error
tool(repeat_limit="once")  # error
agent(client="echo:", instruction="", on_tool_error="raise")  # error
Tool(name="it", description="It.", parameters={})  # error
ToolContext()  # error
