"""Errors in one shape: ``{"error": {"message": …}}``, never a traceback and never another shape."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from mien.app.errors import status_of
from mien.errors import MienError
from mien.text import printable

__all__ = ["Problem", "handle_problems", "problem_response"]


class ProblemText(BaseModel):
    """The text of an error.

    Attributes:
        message: What is wrong, where, and the next step, in one line.
    """

    message: str


class Problem(BaseModel):
    """The answer to a request that failed.

    Attributes:
        error: What is wrong.
    """

    error: ProblemText


def problem_response(status: int, message: str) -> Response:
    """Answer with an error.

    Args:
        status: The HTTP status.
        message: What is wrong, where, and the next step.

    Returns:
        The answer.
    """
    # Messages name what clients sent; they stay one line, whatever that holds.
    problem = Problem(error=ProblemText(message=printable(message)))
    return JSONResponse(problem.model_dump(), status)


def handle_problems(app: FastAPI) -> None:
    """Have an app answer all errors in this shape.

    Args:
        app: The app.
    """
    app.add_exception_handler(MienError, _mien_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)


def _mien_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, MienError)
    return problem_response(status_of(error), str(error))


def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines = []
    for defect in error.errors():
        # The first part says whether it stood in the path, the query or the body.
        place = ".".join(map(str, defect["loc"][1:])) or str(defect["loc"][0])
        lines.append(f"{place}: {defect['msg']}")
    text = "; ".join(lines) + "; see /docs for what this address takes"
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, text)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    answer = problem_response(error.status_code, f"{path}: {error.detail}; see /docs")
    answer.headers.update(error.headers or {})
    return answer


def _bug(request: Request, error: Exception) -> Response:
    # The traceback goes to whoever started the server, not to the client.
    text = f"{request.url.path}: a mistake in mien itself ({type(error).__name__}); please report "
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, text + "what the terminal shows")
