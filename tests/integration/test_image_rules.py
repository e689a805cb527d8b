"""Which images a host makes sandboxes of: templates by name, and what an id may stand for."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from activities.adapters.docker_client import Daemon
from activities.adapters.docker_sandbox import LABEL_HOST
from activities.adapters.docker_sandboxes import DockerSandboxes
from activities.adapters.image_policy import ANY_IMAGE, ImagePolicy
from activities.errors import ImageNotFound, SandboxRefused
from activities.ports.sandbox import Container, SandboxIdentity
from hibernaut.models import SandboxSpec
from hibernaut.models.spec import DEFAULT_IMAGE

OURS = ImagePolicy(("hibernaut/*",))


class Host:
    """A daemon, and images of its own that are removed at the end."""

    def __init__(self) -> None:
        self.daemon = Daemon()
        self.uid = uuid4().hex
        self.made: list[str] = []

    async def acquire(self, policy: ImagePolicy, image: str, image_id: str | None = None) -> Container:
        boxes = DockerSandboxes(self.daemon, {LABEL_HOST: f"images-{self.uid}"}, policy)
        try:
            return await boxes.acquire(SandboxIdentity("images", self.uid, 1), SandboxSpec(image=image), image_id)
        finally:
            await boxes.destroy(self.uid, 1)
            await boxes.close()

    async def image(self, repository: str, tag: str, *more: str) -> str:
        """The id of a new image that differs from the default one."""
        dockerfile = "\n".join((f"FROM {DEFAULT_IMAGE}", f"LABEL org.hibernaut.test={self.uid}-{tag}", *more, ""))
        name = f"{repository}:{tag}"
        image, _ = await asyncio.to_thread(
            self.daemon.client.images.build, fileobj=io.BytesIO(dockerfile.encode()), tag=name, rm=True
        )
        self.made.append(name)
        return str(image.id)

    async def close(self) -> None:
        for name in dict.fromkeys(self.made):
            await asyncio.to_thread(self.daemon.client.images.remove, name)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    yield made
    await made.close()


async def test_a_template_is_the_image_that_was_built_under_its_name(host: Host) -> None:
    tag = f"test-{host.uid[:8]}"
    image_id = await host.image("hibernaut/sandbox", tag)
    assert (await host.acquire(OURS, f"template:{tag}")).image_id == image_id
    base = await asyncio.to_thread(host.daemon.client.images.get, DEFAULT_IMAGE)
    assert (await host.acquire(OURS, "template:base")).image_id == base.id


async def test_an_image_runs_nothing_of_its_own(host: Host) -> None:
    """Neither what it would begin with nor a check of its health: only the agent's commands run."""
    tag = f"busy-{host.uid[:8]}"
    await host.image(
        "hibernaut/sandbox", tag, "HEALTHCHECK --interval=1s CMD touch /checked", 'ENTRYPOINT ["touch", "/begun"]'
    )
    boxes = DockerSandboxes(host.daemon, {LABEL_HOST: f"images-{host.uid}"})
    spec = SandboxSpec(image=f"hibernaut/sandbox:{tag}")
    try:
        made = await boxes.acquire(SandboxIdentity("images", host.uid, 1), spec, None)
        found: dict[str, Any] = await asyncio.to_thread(host.daemon.api.inspect_container, made.sandbox_id)
        assert (found["Config"]["Entrypoint"], found["Path"]) == (["tail", "-f", "/dev/null"], "tail")
        assert "Health" not in found["State"]
    finally:
        await boxes.destroy(host.uid, 1)
        await boxes.close()


async def test_a_template_that_is_not_built_is_told_with_how_to_build_it(host: Host) -> None:
    with pytest.raises(ImageNotFound, match=r"template:none-such is not built.*make sandbox ARGS=none-such"):
        await host.acquire(ANY_IMAGE, "template:none-such")
    with pytest.raises(SandboxRefused, match="template:none-such is not allowed"):
        await host.acquire(ImagePolicy(("python",)), "template:none-such")


async def test_the_id_of_an_image_opens_no_door_that_its_name_does_not(host: Host) -> None:
    """As a wake asks for it: the spec's name is allowed, and the id is of something else."""
    image_id = await host.image("private/builder", host.uid[:8])
    with pytest.raises(SandboxRefused, match=r"private/builder.*not allowed on this host"):
        await host.acquire(OURS, DEFAULT_IMAGE, image_id)
    assert (await host.acquire(ANY_IMAGE, DEFAULT_IMAGE, image_id)).image_id == image_id


async def test_an_agent_whose_tag_moved_on_wakes_from_the_image_it_had(host: Host) -> None:
    tag = f"moves-{host.uid[:8]}"
    first = await host.image("hibernaut/sandbox", tag)
    host.uid = uuid4().hex
    assert await host.image("hibernaut/sandbox", tag) != first
    assert (await host.acquire(OURS, f"hibernaut/sandbox:{tag}", first)).image_id == first
    # It bears no name by which it would be removed at the end.
    host.made.append(first)
