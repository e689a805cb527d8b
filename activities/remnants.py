"""What the sandboxes of an agent left on their hosts, as far as its events tell."""

from pydantic import TypeAdapter, ValidationError

from activities.errors import ObjectNotFound
from activities.housekeeping import EVENTS
from activities.ports.store import ObjectStore
from hibernaut.contracts import StoreKeys
from hibernaut.models import Event, EventKind
from hibernaut.models.base import Open

MOST_REMNANTS = 200


class Told(Open):
    """Of the data of an event about a sandbox."""

    host_id: str = ""
    generation: int = 0
    remnants: tuple[str, ...] = ()


TOLD = TypeAdapter(Told)


async def remnants_of(store: ObjectStore, agent_uid: str, host_id: str = "", generation: int = 0) -> tuple[str, ...]:
    """What was found after destructions, and hosts of whose sandboxes no end is known.

    Args:
        store: The agents'.
        agent_uid: Whose.
        host_id: Where the deletion itself has just seen to the sandboxes, if anywhere.
        generation: Those up to this one.
    """
    if not agent_uid:
        return ()
    left: list[str] = []
    begun: dict[str, int] = {}
    # A destruction, or the next one on the same host, ends all before.
    ended = {host_id: generation}
    async for info in store.list(f"{StoreKeys.agent(agent_uid)}events/"):
        try:
            events = EVENTS.validate_json(await store.get(info.key))
        except (ObjectNotFound, ValidationError):
            # Of another release, or gone: it tells nothing.
            continue
        for event, told in _told(events):
            if event.kind is EventKind.SANDBOX:
                begun[told.host_id] = max(told.generation, begun.get(told.host_id, 0))
            else:
                ended[told.host_id] = max(told.generation, ended.get(told.host_id, 0))
                left += [f"{told.host_id}: {one}" for one in told.remnants]
    left += [
        f"{host}: nothing is known of the end of the container of generation {number}"
        for host, number in sorted(begun.items())
        if number > ended.get(host, 0)
    ]
    return tuple(dict.fromkeys(left))[:MOST_REMNANTS]


def _told(events: tuple[Event, ...]) -> list[tuple[Event, Told]]:
    found: list[tuple[Event, Told]] = []
    for event in events:
        if event.kind in {EventKind.SANDBOX, EventKind.DESTROYED}:
            try:
                found.append((event, TOLD.validate_python(event.data)))
            except ValidationError:
                continue
    return found
