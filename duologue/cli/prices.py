"""`duologue prices`: prints the table of prices, with its date and its sources."""

from __future__ import annotations

from pathlib import Path

import typer

from ..errors import BadInput
from ..session.prices import Price, Prices
from ..session.usage import minute_of

UNITS = (
    ("USD per million tokens", tuple(f for f in Price.__struct_fields__ if f.endswith(("_input", "_output")))),
    ("USD per minute", ("input_minute", "output_minute", "connection_minute")),
    ("USD per million characters", ("characters",)),
)


def print_prices(model: str, file: Path | None) -> int:
    """Print the price of a model, or all prices. `file` goes before the package's table. Returns the exit status.

    Raises BadInput for a model without a price.
    """
    prices = Prices.of(file)
    typer.echo(f"Prices of {prices.date}, in US dollars.")
    if not model:
        for name, price in prices:
            _print(name, price)
        return 0
    found = prices.find(model, model)
    if found is None:
        raise BadInput(f"there is no price of {model!r}: it counts as 0. Give one with --prices FILE")
    _print(model, found)
    return 0


def _print(name: str, price: Price) -> None:
    verified = "" if price.verified else ", not verified"
    typer.echo(f"\n{name}{'-…' if price.family else ''}")
    for unit, fields in UNITS:
        given = [(field, getattr(price, field)) for field in fields if getattr(price, field) not in (None, 0)]
        if given:
            typer.echo(f"  {unit}: " + ", ".join(f"{field.replace('_', ' ')} {usd:g}" for field, usd in given))
    minute = minute_of(price, name, name)
    if not price.units:
        typer.echo("  free")
    else:
        each = [
            ("the caller speaks", minute.input_usd),
            ("the agent speaks", minute.output_usd),
            ("it is connected", minute.connection_usd),
        ]
        told = ", ".join(f"{usd:.4f} while {when}" for when, usd in each if usd)
        typer.echo(f"  about, in USD per minute: {told}")
    typer.echo(f"  {price.source or 'no source'}, {price.date or 'no date'}{verified}")
