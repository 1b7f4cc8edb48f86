"""The models over HTTP against a server that others wrote."""

from __future__ import annotations

import pytest

from tests.services.remote.others import aimock, check, models


@pytest.mark.real_clock
@pytest.mark.filterwarnings("ignore:FUNCTION_CALL is not a valid FinishReason")  # Google's SDK, of aimock's word
async def test_aimock_is_understood() -> None:
    async with aimock() as (address, process):
        for llm in models(address):
            await check(llm, process)
