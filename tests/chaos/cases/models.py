"""The model's API fails, in every way an API can."""

import asyncio

from examples.scripted_model import cut_stream, garbage, hang, http_error
from tests.chaos.trial import Trial, fault


async def _asked_again(trial: Trial) -> None:
    await trial.post()
    await trial.asked(1)
    trial.hit()


@fault("model API: 429 with retry-after", before={1: (http_error(429, {"retry-after": "2"}),)})
async def model_rate_limited(trial: Trial) -> None:
    await _asked_again(trial)
    await trial.answered()
    first, second = (at for at, said, _ in trial.errand.arrivals if said.replies == 1)
    assert second - first >= 2, "asked again before its retry-after was over"


@fault("model API: 500, three times", before={1: (http_error(500),) * 3})
async def model_fails(trial: Trial) -> None:
    await _asked_again(trial)


@fault("model API: no answer", before={1: (hang(30),)})
async def model_hangs(trial: Trial) -> None:
    await _asked_again(trial)


@fault("model API: stream cut off", before={1: (cut_stream(400), cut_stream(900, clean=True))})
async def model_stream_cut(trial: Trial) -> None:
    await _asked_again(trial)


@fault("model API: malformed JSON", before={1: (garbage('event: response.created\ndata: {"type": oops\n\n'),)})
async def model_malformed(trial: Trial) -> None:
    await _asked_again(trial)


@fault("model API: connection refused for 5 s", thinking={1: 2.0})
async def model_refuses_connections(trial: Trial) -> None:
    await trial.post()
    await trial.asked(1)
    trial.hit()
    await trial.world.stop_model()
    await asyncio.sleep(5)
    await trial.world.start_model()
