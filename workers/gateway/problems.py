"""Every error as a status and a JSON body `{code, message, hint}`: one place decides which."""

import json
import logging
import re
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from activities import errors as activity_errors
from activities.errors import HibernautActivityError
from hibernaut import errors
from hibernaut.errors import HibernautError

log = logging.getLogger(__name__)

_STATUS: Mapping[type[HibernautError], int] = {
    errors.AgentNotFound: 404,
    errors.FileMissing: 404,
    errors.SnapshotMissing: 404,
    errors.MessageUnknown: 404,
    errors.OutputMissing: 404,
    errors.MessageTooLarge: 413,
    errors.FileTooLarge: 413,
    errors.InvalidRequest: 422,
    errors.AgentError: 409,
    errors.FileError: 409,
    errors.WaitTimeout: 504,
    errors.Unavailable: 503,
}
"""The first class of an error's ancestry that is named here decides."""


class WrongToken(HibernautError):
    """The bearer token is missing or wrong."""

    code = "unauthorized"


def status_of(error: HibernautError) -> int:
    """The HTTP status of an error of ours."""
    if isinstance(error, WrongToken):
        return 401
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return 500


def problem(error: HibernautError) -> Response:
    """The answer that tells an error."""
    body: dict[str, object] = {"code": error.code, "message": error.message, "hint": error.hint}
    if isinstance(error, errors.AgentError):
        body["agent_id"] = error.agent_id
    if isinstance(error, errors.AgentPaused):
        body["reason"] = error.reason
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, WrongToken) else None
    # Through json, not JSONResponse: a message may name a path that is not UTF-8.
    return Response(json.dumps(body), status_of(error), headers, media_type="application/json")


def from_activity(
    error: HibernautActivityError, path: str | None = None, *, asleep: bool = True
) -> HibernautError | None:
    """The client's word for an error of a store, snapshot or sandbox; None when there is none.

    `asleep`: a snapshot was read in place of the container, not because it was asked for.
    """
    text = str(error)
    match error:
        case activity_errors.FileNotInSnapshot():
            return errors.FileMissing(text)
        case activity_errors.FileInImageOnly():
            return errors.SandboxAsleep(
                f"{path or 'The file'} is not among the files the agent changed; if it exists, it is in its image.",
                hint="Wake the agent and read it again." if asleep else "Snapshots hold what differs from the image.",
            )
        case activity_errors.SnapshotNotFound():
            return errors.SnapshotMissing(text, hint="`hibernaut snapshots NAME` lists them.")
        case activity_errors.ImageMismatch():
            return errors.InvalidRequest(text)
        case activity_errors.PathNotUsable() if "no such file" in text:
            return errors.FileMissing(f"There is no {path} in the agent's computer.")
        case activity_errors.PathNotUsable():
            return errors.FileUnsuitable(text)
        case activity_errors.ObjectNotFound():
            return errors.OutputMissing("There is no such output, or the agent has not written it yet.")
        case _:
            return None


def rejected(error: errors.RequestRejected, path: str) -> HibernautError:
    """The client's word for a write that the agent could not do."""
    if error.reason_code == activity_errors.PathNotUsable.code:
        return errors.FileUnsuitable(f"{path} cannot be written: {error.message}")
    return error


def hibernaut_error(_request: Request, error: Exception) -> Response:
    """Handler for errors of the SDK."""
    assert isinstance(error, HibernautError)  # noqa: S101  # what it is registered for
    return problem(error)


def activity_error(_request: Request, error: Exception) -> Response:
    """Handler for errors of the store, the snapshot engine and the sandboxes."""
    assert isinstance(error, HibernautActivityError)  # noqa: S101  # what it is registered for
    known = from_activity(error)
    if known is not None:
        return problem(known)
    log.warning("%s: %s", error.code, error)
    # The gateway's codes are the SDK's, in snake case; those of activities are names of classes.
    code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", error.code).lower()
    return JSONResponse({"code": code, "message": str(error), "hint": ""}, 503 if error.retryable else 500)


def http_error(_request: Request, error: Exception) -> Response:
    """Handler for what the router itself refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101  # what it is registered for
    words = {404: "There is no such resource.", 405: "This resource does not take that method."}
    message = words.get(error.status_code, error.detail)
    return JSONResponse({"code": "no_route", "message": message, "hint": ""}, error.status_code, error.headers)


def unexpected(_request: Request, error: Exception) -> Response:
    """Handler for the rest: the log has the details, the client does not."""
    log.error("unexpected error", exc_info=error)
    return JSONResponse({"code": "internal", "message": "The gateway failed; its log says why.", "hint": ""}, 500)
