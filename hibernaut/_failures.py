"""What a failure says that Temporal tells of, sealed or not."""

from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter

from hibernaut.errors import HibernautError


async def message_of(failure: Failure, converter: DataConverter) -> str:
    """Its message; where that cannot be opened, why."""
    if not failure.HasField("encoded_attributes"):
        return failure.message
    try:
        (said,) = await converter.decode([failure.encoded_attributes], [dict[str, str]])
    except HibernautError as error:
        # A list of what an agent waits for is worth having without the words.
        return error.message
    except (LookupError, RuntimeError, ValueError):
        # Written by a function's worker, in whatever language.
        return "its message cannot be read"
    return str(said.get("message", "")) if said else ""
