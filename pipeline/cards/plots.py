"""The plots of a card as PNG, where matplotlib is installed. Bytes may differ between versions of matplotlib."""

import importlib.util
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Card = TypeVar("Card")

_INCHES, _DPI = (5.0, 3.2), 110
_MARGINS = {"left": 0.15, "right": 0.97, "bottom": 0.16, "top": 0.91}


@dataclass(frozen=True, kw_only=True)
class Plot(Generic[Card]):
    """A plot that cards of a kind may have.

    Attributes:
        shows: What it shows, in a few words.
        draw: Draws it into the axes of matplotlib.
        has_numbers: Whether a card has the numbers for it.
    """

    shows: str
    draw: Callable[[Any, Card], None]
    has_numbers: Callable[[Card], bool]


def can_plot() -> bool:
    """Say whether matplotlib is installed: the extra ``plots``."""
    return importlib.util.find_spec("matplotlib") is not None


def wanted(plots: Mapping[str, Plot[Card]], card: Card) -> list[str]:
    """Name the plots that a card has numbers for."""
    return [name for name, plot in plots.items() if plot.has_numbers(card)]


def draw_all(plots: Mapping[str, Plot[Card]], card: Card, title: Callable[[Plot[Card]], str]) -> dict[str, bytes]:
    """Draw the plots that a card has numbers for, PNG by name; needs matplotlib."""
    return {name: _drawn(plots[name], card, title(plots[name])) for name in wanted(plots, card)}


def _drawn(plot: Plot[Card], card: Card, title: str) -> bytes:
    # Fixed margins: finding them takes as long again as drawing, a fifth of a second per plot.
    figure = new_figure(_INCHES, layout=None)
    axes = figure.subplots(gridspec_kw=_MARGINS)
    # At a height that is given: matplotlib 3.11 else measures every tick to place it, a third of the drawing.
    axes.set_title(title, fontsize=9, y=1.01)
    axes.grid(alpha=0.3)
    plot.draw(axes, card)
    return png(figure)


def new_figure(inches: tuple[float, float], layout: Literal["constrained"] | None = "constrained") -> Any:
    """Begin a figure of matplotlib. It does not go through pyplot, so none of its global state is used or changed."""
    from matplotlib.figure import Figure

    return Figure(figsize=inches, dpi=_DPI, layout=layout)


def png(figure: Any) -> bytes:
    """Write a figure as PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def section(plots: Mapping[str, Plot[Card]], card: Card, *, drawn: bool, file: Callable[[str], str], again: str) -> str:
    """Write the section of a card's page that shows its plots; empty where the card has no numbers for any.

    Args:
        plots: All that cards of the kind may have.
        card: The card.
        drawn: Whether they were drawn.
        file: Gives the file of a plot, as the page reaches it.
        again: What to do to get them when matplotlib is there, as ``run describe_codebooks again``.
    """
    if not drawn:
        return f"## Plots\n\nNone: matplotlib was not installed. The extra `plots` has it; {again}."
    links = [f"![{plots[name].shows}]({file(name)})" for name in wanted(plots, card)]
    return "## Plots\n\n" + "\n".join(links) if links else ""
