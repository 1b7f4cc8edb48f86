"""The pytest plugin, as a project sees it that has the package installed."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SWITCHED_ON = "[pytest]\nduologue_virtual_clock = true\naddopts = --strict-markers\nfilterwarnings = error\n"


def run_pytest(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    # Hypothesis's plugin takes most of a second to end a session, and has no part here.
    return pytester.runpytest("-p", "no:hypothesispytest", *args)


def test_async_tests_run_in_virtual_time(pytester: pytest.Pytester) -> None:
    pytester.makeini(SWITCHED_ON)
    pytester.makepyfile(
        """
        import anyio, pytest, time

        async def test_ten_minutes(clock, tmp_path):
            assert clock.time() == 0
            await anyio.sleep(600)
            assert clock.time() == 600

        @pytest.mark.parametrize("seconds", [1, 2])
        async def test_parameters(clock, seconds):
            await anyio.sleep(seconds)
            assert clock.time() == seconds

        class TestClass:
            async def test_method(self, clock):
                await anyio.sleep(1)
                assert clock.time() == 1

        @pytest.mark.real_clock
        async def test_real_time():
            assert abs(anyio.current_time() - time.monotonic()) < 1

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_of_anyio():
            assert abs(anyio.current_time() - time.monotonic()) < 1

        def test_sync():
            pass
        """
    )
    run_pytest(pytester).assert_outcomes(passed=7)


def test_other_projects_are_left_alone_but_for_marked_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest

        async def test_not_ours():
            pass

        @pytest.mark.virtual_clock
        async def test_marked(clock):
            await anyio.sleep(600)
            assert clock.time() == 600

        @pytest.mark.seeds(3)
        async def test_seeded():
            await anyio.sleep(600)
        """
    )
    result = run_pytest(pytester)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*async def functions are not natively supported*"])


def test_a_failing_seed_is_named_and_replays_alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(
        test_race="""
        import anyio, pytest

        runs = []

        @pytest.mark.seeds(100)
        async def test_race():
            order = []

            async def step(name):
                order.append(name)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(step, "a")
                tasks.start_soon(step, "b")
            runs.append(order)
            print("runs", len(runs))
            assert order == ["a", "b"], "b came first"
        """
    )
    result = run_pytest(pytester)
    result.assert_outcomes(failed=1)
    replay = next(line for line in result.outlines if "replay: " in line).rpartition("replay: ")[2]
    seed, command = replay.removeprefix("DUOLOGUE_SEED=").split(" ", 1)
    assert command == "pytest test_race.py::test_race"

    monkeypatch.setenv("DUOLOGUE_SEED", seed)
    result = run_pytest(pytester, command.removeprefix("pytest "))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*SeedFailed: seed {seed}; *", "*AssertionError: b came first*", "runs 1"])


def test_tasks_that_are_left_and_errors_of_callbacks_fail_the_test(pytester: pytest.Pytester) -> None:
    pytester.makeini(SWITCHED_ON)
    pytester.makepyfile(
        """
        import anyio, asyncio, pytest

        tasks = []

        async def forgotten():
            await anyio.sleep(5)

        def spawn(name):
            tasks.append(asyncio.create_task(forgotten(), name=name))

        async def test_leak():
            spawn("the forgotten one")

        @pytest.mark.real_clock
        async def test_leak_in_real_time():
            spawn("the real one")

        @pytest.mark.seeds(2)
        async def test_leak_under_seeds():
            spawn("the seeded one")

        async def test_callback():
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)

        async def test_what_ends_by_itself_is_no_leak():
            task = asyncio.create_task(forgotten())
            await anyio.sleep(1)
            task.cancel()
        """
    )
    result = run_pytest(pytester)
    result.assert_outcomes(passed=1, failed=4)
    for name in ("the forgotten one", "the real one", "the seeded one"):
        result.stdout.fnmatch_lines([f"*its tasks have not: '{name}' at *test_tasks_that_are_left*.py:6 in forgotten*"])
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])


@pytest.mark.parametrize("body", ["return 1", "yield 1"])
def test_an_async_fixture_is_refused_by_name(pytester: pytest.Pytester, body: str) -> None:
    pytester.makeini(SWITCHED_ON)
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        async def server():
            {body}

        async def test_it(server):
            pass
        """
    )
    result = run_pytest(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_it asks for 'server', an async fixture.*sync fixtures only*"])


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ("seeds", "*missing 1 required positional argument: 'n'*"),
        ("seeds(0)", "*seeds(0) would run nothing*"),
        ("virtual_clock(limit=3)", "*unexpected keyword argument 'limit'*"),
        ("virtual_clock(limit_s=3)", "*still runs after 3 s of virtual time*in test_it*"),
    ],
)
def test_markers_mean_what_they_say(pytester: pytest.Pytester, marker: str, complaint: str) -> None:
    pytester.makepyfile(
        f"""
        import anyio, pytest

        @pytest.mark.{marker}
        async def test_it():
            for _ in range(10):
                await anyio.sleep(1)
        """
    )
    result = run_pytest(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([complaint])


def test_pytest_asyncios_mode_auto_takes_the_tests_and_is_warned_about(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nduologue_virtual_clock = true\nasyncio_mode = auto\n")
    pytester.makepyfile("def test_nothing(): pass")
    # Its option, as pytest-asyncio adds it.
    pytester.syspathinsert()
    pytester.makepyfile(
        like_pytest_asyncio="""
        def pytest_addoption(parser):
            parser.addini("asyncio_mode", "the mode", default="strict")
            parser.addoption("--asyncio-mode", dest="asyncio_mode", default=None)
        """
    )
    result = run_pytest(pytester, "-p", "like_pytest_asyncio")
    result.stdout.fnmatch_lines(["*duologue_virtual_clock has no effect: pytest-asyncio*"])
    result = run_pytest(pytester, "-p", "like_pytest_asyncio", "--asyncio-mode=strict")
    result.stdout.no_fnmatch_line("*duologue_virtual_clock has no effect*")
