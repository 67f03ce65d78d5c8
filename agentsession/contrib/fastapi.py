"""Sessions in a FastAPI app: `session_router`. Needs the extra `fastapi`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import peewee
from pydantic import WrapValidator, create_model

try:
    from fastapi import APIRouter, Body, Depends, Header, Query, Response
except ImportError as missing:
    fix = "pip install 'agentsession[fastapi]'"
    raise ImportError(f"agentsession.contrib.fastapi needs FastAPI: {fix}") from missing

from fastapi.responses import JSONResponse

from agentsession import actions, info
from agentsession.contrib._web import described
from agentsession.contrib._web.decisions import Decision, adecide
from agentsession.contrib._web.declared import has_approvals, refuse_undeclared
from agentsession.contrib._web.event_stream import EventStream
from agentsession.contrib._web.guard import body_limit
from agentsession.contrib._web.problem_route import problem_route
from agentsession.contrib._web.problems import MEDIA_TYPE, NO_JSON_TYPE, Refused
from agentsession.contrib._web.requests import LISTED, MAX_LISTED, WRAPPER, is_wrapped, present, unwrapped
from agentsession.contrib._web.shown import approvals_json, page_json, result_reply, session_json, turn_reply

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Stands for this one message: sent again with the same key, it brings the stored result.",
    ),
]


def session_router(
    model: type[peewee.Model],
    *,
    actor: Callable[..., Any] | None = None,
    instruction_args: Callable[..., Any] | Mapping[str, Any] | None = None,
    approvals: bool = True,
    prefix: str = "",
    tags: Sequence[str] | None = None,
) -> APIRouter:
    """Routes by which a browser holds the conversations of a model: begin, list, read, go on, stream, resume,
    cancel and delete them.

    `actor` is a dependency that gives whose sessions the request may see: a value of the model's
    `owner_attribute`, or a record; None is answered with 401. It is required where the model has an owner;
    without one every session is everybody's. `instruction_args` are the values of the instruction's
    variables for new sessions, or a dependency that gives them; never take them from what the client says.

    The body of a message is the agent's input schema, an `Idempotency-Key` header is its key. Errors are
    problem details (RFC 9457); a model that failed is a 502 with the id of the session, which can be resumed.
    A POST that is not JSON is a 415, so that no page of another site reaches an action. A body of more than
    three times the model's `max_input_bytes` and 64 KiB is a 413, and is not read.
    A streamed turn ends as `interrupted` when its client hangs up. No database connection is held while the
    model answers.

    Where a tool of the agent needs an approval, a turn that has to wait for one is answered with 202, and
    there are routes that list such calls and decide about them: whoever may see a session may do so. With
    `approvals=False` there are none, for an app whose staff decides elsewhere.

    Raises `DslError` where the actor or the arguments are missing.

    ```python
    from fastapi import FastAPI

    from agentsession.contrib.fastapi import session_router

    app = FastAPI()
    app.include_router(session_router(ChatAgent, instruction_args={"company_name": "Acme"}), prefix="/chats")
    ```
    """
    refuse_undeclared(model, "session_router", actor, instruction_args)
    router = APIRouter(
        prefix=prefix,
        tags=[model.__name__] if tags is None else [*tags],
        route_class=problem_route(body_limit(model)),
    )
    whose = Depends(_actor_of(actor))
    _add_start(router, model, whose, Depends(_args_of(instruction_args)))
    _add_continue(router, model, whose)
    _add_resume(router, model, whose)
    if info.session_options(model).updated_attribute is not None:
        _add_list(router, model, whose)
    if approvals and has_approvals(model):
        _add_approvals(router, model, whose)
    _add_session(router, model, whose)
    return router


def _add_start(router: APIRouter, model: Any, whose: Any, args: Any) -> None:
    body = Depends(_body_of(model))

    @router.post("/", status_code=201, **_turn(model))
    async def start_session(
        said: Any = body, actor: Any = whose, args: Any = args, key: Key = None
    ) -> Response:
        """Begin a session with its first message; the answer has the reply."""
        record = await actions.astart_session(
            model, said, instruction_args=args, actor=actor, idempotency_key=key
        )
        return JSONResponse(*result_reply(record, 201))

    @router.post("/stream", **_stream())
    async def stream_start_session(
        said: Any = body, actor: Any = whose, args: Any = args, key: Key = None
    ) -> Response:
        """Begin a session, and follow the reply as it comes."""
        stream = actions.astream_start_session(
            model, said, instruction_args=args, actor=actor, idempotency_key=key
        )
        return EventStream(await stream)


def _add_continue(router: APIRouter, model: Any, whose: Any) -> None:
    body = Depends(_body_of(model))

    @router.post("/{id}/messages", **_turn(model))
    async def continue_session(id: str, said: Any = body, actor: Any = whose, key: Key = None) -> Response:
        """Say the next thing; the answer has the reply."""
        record = await actions.acontinue_session(model, id, said, actor=actor, idempotency_key=key)
        return JSONResponse(*result_reply(record))

    @router.post("/{id}/messages/stream", **_stream())
    async def stream_continue_session(
        id: str, said: Any = body, actor: Any = whose, key: Key = None
    ) -> Response:
        """Say the next thing, and follow the reply as it comes."""
        stream = actions.astream_continue_session(model, id, said, actor=actor, idempotency_key=key)
        return EventStream(await stream)


def _add_resume(router: APIRouter, model: Any, whose: Any) -> None:
    @router.post("/{id}/resume", **_turn(model))
    async def resume_session(id: str, actor: Any = whose) -> Response:
        """Run the latest turn again, if it did not complete; the answer has the reply."""
        return JSONResponse(*result_reply(await actions.aresume_session(model, id, actor=actor)))

    @router.post("/{id}/resume/stream", **_stream())
    async def stream_resume_session(id: str, actor: Any = whose) -> Response:
        """Run the latest turn again, and follow the reply as it comes."""
        return EventStream(await actions.astream_resume_session(model, id, actor=actor))


def _add_list(router: APIRouter, model: Any, whose: Any) -> None:
    @router.get("/", response_model=described.Page, responses=_problems(401, 422))
    async def list_sessions(
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = LISTED,
        before: Annotated[str | None, Query(description="`next` of the page before")] = None,
        actor: Any = whose,
    ) -> Response:
        """The sessions by their last activity, the newest first."""
        page = await actions.alist_sessions(model, actor=actor, limit=limit, before=before)
        return JSONResponse(page_json(page))


def _add_approvals(router: APIRouter, model: Any, whose: Any) -> None:
    decision = Depends(_body(Decision))

    @router.get("/{id}/approvals", response_model=described.Approvals, responses=_problems(401, 404, 422))
    async def list_approvals(id: str, actor: Any = whose) -> Response:
        """The calls of the latest turn that wait for somebody's approval."""
        return JSONResponse(approvals_json(await actions.aapprovals(model, id, actor=actor)))

    problems = _problems(401, 404, 409, 413, 415, 422)

    @router.post("/{id}/approvals", response_model=described.TurnReply, responses=problems)
    async def decide_approval(id: str, said: Any = decision, actor: Any = whose) -> Response:
        """Decide about a call. Once none of `turn.approvals` is left, resume the session."""
        return JSONResponse(await adecide(model, id, said, actor=actor))


def _add_session(router: APIRouter, model: Any, whose: Any) -> None:
    @router.get("/{id}", response_model=described.Session, responses=_problems(401, 404, 422))
    async def get_session(id: str, actor: Any = whose) -> Response:
        """The whole conversation. While a turn runs, `turn.partial` is what has come of its reply."""
        context = await actions.aget_context(model, id, actor=actor)
        return JSONResponse(session_json(model, id, context))

    problems = _problems(401, 404, 409, 413, 415, 422)

    @router.post("/{id}/cancel", response_model=described.TurnReply, responses=problems)
    async def cancel_session(id: str, actor: Any = whose) -> Response:
        """Stop the turn that is running; one that has ended stays as it is."""
        return JSONResponse(turn_reply(await actions.acancel_session(model, id, actor=actor)))

    @router.delete("/{id}", status_code=204, responses=_problems(401, 404, 422))
    async def delete_session(id: str, actor: Any = whose) -> Response:
        """Delete the session with the whole conversation."""
        await actions.adelete_session(model, id, actor=actor)
        return Response(status_code=204)


def _actor_of(actor: Callable[..., Any] | None) -> Callable[..., Any]:
    if actor is None:

        async def nobody() -> None: ...

        return nobody

    async def somebody(given: Annotated[Any, Depends(actor)]) -> Any:
        return present(given)

    return somebody


def _args_of(given: Callable[..., Any] | Mapping[str, Any] | None) -> Callable[..., Any]:
    if callable(given):
        return given

    async def fixed() -> Mapping[str, Any] | None:
        return given

    return fixed


def _body_of(model: type[Any]) -> Callable[..., Any]:
    """The body is described by the agent's input schema, and read by the action alone."""
    wrapped = is_wrapped(model)
    shown: Any = info.input_schema(model)
    if wrapped:
        fields: dict[str, Any] = {WRAPPER: (shown, ...)}
        shown = create_model(f"{model.__name__}Input", **fields)

    return _body(shown, unwrapped if wrapped else None)


def _body(shown: Any, read: Callable[[Any], Any] | None = None) -> Callable[..., Any]:
    async def body(said: Any) -> Any:
        if isinstance(said, bytes):
            raise Refused(NO_JSON_TYPE)
        return said if read is None else read(said)

    body.__annotations__["said"] = Annotated[shown, Body(), WrapValidator(lambda value, _: value)]
    return body


def _turn(model: type[Any]) -> dict[str, Any]:
    """What the page says of a route that runs a turn."""
    reply: Any = described.ResultReply
    shown = reply[info.output_schema(model)]
    responses = _problems(401, 404, 409, 413, 415, 422, 502, 503)
    if has_approvals(model):
        found = "The turn waits for somebody's approval"
        responses[202] = {"description": found, "model": described.WaitingReply}
    return {"response_model": shown, "responses": responses}


def _stream() -> dict[str, Any]:
    """What it says of one that streams a turn."""
    events = {
        "description": "The events of the turn",
        "content": {"text/event-stream": {"itemSchema": described.EVENT}},
    }
    problems = _problems(401, 404, 409, 413, 415, 422, 502, 503)
    return {"response_class": Response, "status_code": 200, "responses": {200: events, **problems}}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": described.Problem.model_json_schema()}}
    return {status: {"description": described.PROBLEMS[status], "content": content} for status in statuses}
