"""The models over HTTP against servers that others wrote."""

from __future__ import annotations

import pytest

from duologue.services.openai import OpenAILLM
from tests.services.remote.others import MOCKED, PATIENT, aimock, answers, check, litellm, models

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.filterwarnings("ignore:FUNCTION_CALL is not a valid FinishReason"),  # Google's SDK, of aimock's word
]


async def test_aimock_is_understood() -> None:
    async with aimock() as (address, process):
        for llm in models(address):
            await check(llm, process)


async def test_the_proxy_of_litellm_is_understood() -> None:
    """Its models of another server, and its own mock model."""
    async with aimock() as (behind, _), litellm(behind) as (address, process):
        for llm in models(address):
            await check(llm, process)
        mock = OpenAILLM("mock", base_url=f"{address}/v1", limits=PATIENT)
        try:
            assert await answers(mock, "Hello?") == MOCKED
        finally:
            await mock.close()
