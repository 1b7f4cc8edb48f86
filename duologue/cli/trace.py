"""`duologue trace`: show, export, verify, redact and list recorded calls, and make keys to sign them."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ..errors import BadInput, ConfigurationError
from ..session.logs import printable
from ..trace.export import CallSummary, write_latencies, write_rows
from ..trace.keys import fingerprint, make_key, public_key
from ..trace.opening import open_store
from ..trace.reader import Records
from ..trace.records import BadTrace
from ..trace.redaction import Redaction, redact
from ..trace.shown import clock_time, shown_lines
from ..trace.store import FolderStore, Store
from ..trace.verification import Verification, verify
from .guard import guarded

trace = typer.Typer(help="Recorded calls: show, verify, redact, export.", no_args_is_help=True)

_File = Annotated[
    str, typer.Argument(help="The file of a trace, or with --call the store that has it.", metavar="FILE")
]
_Call = Annotated[str, typer.Option(help="The name of the call in a store: a folder, sqlite:///FILE or redis://HOST.")]


def _source(file: str, call: str) -> tuple[Store | Path, str]:
    """Return where a trace is: its file, or a store and the name of the call."""
    if call:
        return open_store(file), call
    if "://" in file:
        raise ConfigurationError("a store has many calls: name one with --call (`duologue trace list` shows them)")
    return Path(file), ""


@trace.command("show")
def show_file(
    file: _File,
    call: _Call = "",
    since: Annotated[str, typer.Option("--from", help="Begin at this time of the call, mm:ss.")] = "",
    kind: Annotated[list[str] | None, typer.Option(help="Only records or events of this kind. Repeatable.")] = None,
    words: Annotated[bool, typer.Option("--words/--no-words", help="Show what was said.")] = True,
) -> None:
    """Print a line for each record."""

    def run() -> int:
        records = Records(*_source(file, call))
        for line in shown_lines(records, since=seconds_of(since), kinds=frozenset(kind or ()), words=words):
            print(line)
        if records.torn:
            print("torn end: the last record was being written when the process ended", file=sys.stderr)
        return 0

    guarded(run)


@trace.command()
def export(
    file: _File,
    call: _Call = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object: rows, cost, latencies, errors.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="The rows of the conversation as CSV.")] = False,
    latencies: Annotated[bool, typer.Option("--latencies", help="The latencies of the turns as CSV.")] = False,
    out: Annotated[Path | None, typer.Option(help="A new file; without it, standard output.")] = None,
) -> None:
    """Export the conversation, its cost and its latencies."""

    def run() -> int:
        if json + csv + latencies > 1:
            raise ConfigurationError("an export has one form: --json, --csv or --latencies")
        summary, text = CallSummary(*_source(file, call)), io.StringIO(newline="")
        if csv:
            write_rows(summary, text)
        elif latencies:
            write_latencies(summary, text)
        else:
            text.write(msgspec.json.format(msgspec.json.encode(summary.plain())).decode() + "\n")
        _write(text.getvalue(), out)
        return 0

    guarded(run)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        return
    try:
        with out.open("x", newline="") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written: {error.strerror}") from error


@trace.command("verify")
def verify_file(
    file: _File,
    call: _Call = "",
    key: Annotated[Path | None, typer.Option(help="The public key by which the trace must be sealed.")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="A trace without its end record is an alarm.")] = False,
) -> None:
    """Find what was changed, dropped, moved, doubled or added. Exits with 1 then, with 2 if it is not a trace."""

    def run() -> int:
        result = verify(*_source(file, call), key=public_key(key) if key is not None else None)
        for line in verdict(result):
            print(printable(line))
        alarm = not result.ok or (ended and not result.ended)
        print("CHANGED" if not result.ok else "NOT COMPLETE" if alarm else "OK")
        return 1 if alarm else 0

    guarded(run)


def verdict(result: Verification) -> list[str]:
    """Return the lines that tell the result of a verification."""
    count, until = result.records, clock_time(result.until)
    lines = [f"call {result.session_id} of {result.started_at}: {count} records up to {until}"]
    if not result.ended:
        lines.append(f"no end record: {count} records up to {until}; the process was killed, or the end was cut")
    if result.torn:
        lines.append("torn end: the last record was being written when the process ended")
    if result.not_written:
        lines.append(f"{result.not_written} records not written: the store was too slow, or failed, during the call")
    if result.redacted:
        ranges = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in result.redacted[:20])
        more = ", …" if len(result.redacted) > 20 else ""
        lines.append(f"{result.redacted_records} records redacted: {ranges}{more}")
    if result.sealed_to and (unsealed := [seq for seq in result.redactions if seq > result.sealed_to]):
        lines.append(f"the redaction in record {unsealed[0]} is not sealed: somebody without the key has made it")
    if not result.seals_checked:
        lines.append("the seals were not checked: pip install 'duologue[trace]'")
    elif result.sealed_to:
        lines.append(f"sealed up to record {result.sealed_to} by key {', '.join(result.keys)}")
    lines += [str(problem) for problem in result.problems]
    if result.more_problems:
        lines.append(f"and {result.more_problems} more problems")
    return lines


@trace.command("redact")
def make_redacted(
    file: _File,
    out: Annotated[Path, typer.Option(help="The new file.")],
    call: _Call = "",
    words: Annotated[bool, typer.Option("--words", help="Remove everything private.")] = False,
    caller: Annotated[bool, typer.Option("--caller", help="Remove what is the caller's.")] = False,
    audio: Annotated[bool, typer.Option("--audio", help="Remove all audio.")] = False,
    item: Annotated[list[str] | None, typer.Option(help="Remove this item of the log. Repeatable.")] = None,
    match: Annotated[str, typer.Option(help="Remove records whose texts match this regular expression.")] = "",
    sign: Annotated[Path | None, typer.Option(help="Seal the copy with this private key.")] = None,
) -> None:
    """Write a copy without some of its content. Its chain stays valid."""

    def run() -> int:
        redaction = Redaction(words=words, caller=caller, audio=audio, items=tuple(item or ()), match=match)
        source, name = _source(file, call)
        count = redact(source, out, redaction, call=name, sign=sign)
        print(f"{count} records redacted in {out}")
        return 0

    guarded(run)


@trace.command("list")
def list_calls(
    where: Annotated[str, typer.Argument(help="A folder, sqlite:///FILE or redis://HOST.", metavar="STORE")],
) -> None:
    """List the calls in a store, the newest first."""

    def run() -> int:
        store = open_store(where)
        if isinstance(store, FolderStore) and not store.folder.is_dir():
            raise BadTrace(f"{where} is not a folder")
        for name in store.names():
            print(printable(f"{name}  {_headline(store, name)}"))
        return 0

    guarded(run)


def _headline(store: Store, name: str) -> str:
    try:
        first = next(iter(Records(store, name)))
    except BadTrace as error:
        return f"cannot be read: {error}"
    facts = first.facts
    engines = [engine.get("engine", "") for engine in facts.get("engines", ()) if isinstance(engine, dict)]
    return f"{facts.get('started_at', '')}  session {facts.get('session_id', '')}  {', '.join(map(str, engines))}"


@trace.command()
def keygen(
    out: Annotated[Path, typer.Argument(help="The file of the private key; .pub is added for the public one.")],
) -> None:
    """Make a key that signs traces."""

    def run() -> int:
        private, public = make_key(out)
        print(f"private key: {private}\npublic key: {public}, {fingerprint(public_key(public))}")
        return 0

    guarded(run)


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as "03:12", "1:03:12.5" or "12". Raises BadInput."""
    if not text:
        return 0.0
    if not re.fullmatch(r"(\d{1,4}:){0,2}\d{1,6}(\.\d+)?", text, re.ASCII):
        raise BadInput(f"{text!r} is not a time of the call: give minutes and seconds, such as 03:12")
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds
