"""Limits and refusals as an agent and its model meet them, through the whole engine."""

import pytest

from activities.adapters.image_policy import ImagePolicy
from examples.scripted_model import Conversation, Reply, respond, say, shell
from hibernaut.errors import AgentPaused
from tests.integration.conftest import LabFactory

FILL = "for i in $(seq 60); do head -c 10M /dev/zero >/root/f$i; done; sleep 60"


@pytest.mark.slow
async def test_the_model_is_told_which_limit_a_command_met(lab: LabFactory) -> None:
    def told(conversation: Conversation) -> Reply:
        return say(" | ".join(result.stderr for call in conversation.calls for result in call.results))

    script = [shell("python3 -c 'bytearray(1 << 30)'"), shell(FILL), shell("rm -f /root/f*"), respond(told)]
    async with lab(script) as it:
        agent = await it.start(sandbox={"memory_mb": 128, "disk_mb": 64})
        reply = await agent.send("go", timeout=120)
        assert "out of memory" in reply.text
        assert "disk limit (disk_mb)" in reply.text
        await agent.close()


async def test_an_image_that_no_host_allows_is_refused_before_anything_starts(lab: LabFactory) -> None:
    lab.settings = lab.settings.model_copy(update={"images": ImagePolicy(("hibernaut/*",))})
    async with lab([shell("true"), say("done")]) as it:
        agent = await it.start(sandbox={"image": "somebody/else:1"})
        with pytest.raises(AgentPaused, match=r"somebody/else:1 is not allowed on this host.*HIBERNAUT_IMAGES"):
            await agent.send("go", timeout=60)
        assert await it.containers(agent) == []
        await agent.close(timeout=60)
