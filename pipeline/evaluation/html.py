"""Parts of a page: one HTML file that opens from disk, asks no network, needs no JavaScript.

Whatever comes from data is escaped, and on one line without characters that cannot be seen.
"""

import base64
import html
from collections.abc import Container, Sequence
from typing import Any

from pipeline.cards.text import plain
from pipeline.evaluation.picture import Picture

_STYLE = """
:root{color-scheme:light dark}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;background:Canvas;color:CanvasText}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2rem}h3{font-size:1rem}
h1,h3,p,caption{overflow-wrap:anywhere}
nav ul{padding:0;list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem}
nav a{display:inline-block;padding:.25rem 0}
:focus-visible{outline:3px solid Highlight;outline-offset:2px}
.wide{overflow-x:auto}
img{display:block;max-width:100%;min-width:30rem;height:auto;background:#fff}
img.long{max-width:none}
table{border-collapse:collapse;font-size:.9rem}
caption{text-align:left;padding:.3rem 0}
th,td{border:1px solid #8888;padding:.2rem .5rem;text-align:right;vertical-align:top}
th[scope=row],.text{text-align:left}
th[scope=row]{min-width:6rem;max-width:16rem;overflow-wrap:anywhere}td.text{overflow-wrap:anywhere;min-width:9rem}
figure{margin:1rem 0;break-inside:avoid}
summary{padding:.25rem 0;cursor:pointer;overflow-wrap:anywhere}pre{margin:.3rem 0;font-size:.9rem}
@media print{body{max-width:none;font-size:11pt;padding:0}nav{display:none}.wide{overflow:visible}
details::details-content{content-visibility:visible;block-size:auto}pre{white-space:pre-wrap;overflow-wrap:anywhere}
table{font-size:7pt}th,td{padding:1pt 2pt;overflow-wrap:anywhere}th[scope=row],td.text{min-width:0}
img,img.long{min-width:0;max-width:100%}
h2,h3{break-after:avoid}tr{break-inside:avoid}}
"""
_MOST_CHARACTERS = 4_000
"""Of a transcript; a longer one is cut."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(
    title: str, sections: Sequence[tuple[str, str]], parts: Sequence[str], *, style: str = "", media: bool = False
) -> bytes:
    """Write the file.

    Args:
        title: Of the page; escaped already.
        sections: Anchor and heading of each, for the list of contents.
        parts: HTML, in order.
        style: Further rules.
        media: Whether it has recordings, as ``data:``.
    """
    links = "".join(f'<li><a href="#{anchor}">{heading}</a></li>' for anchor, heading in sections)
    contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>'
    policy = _POLICY + ("; media-src data:" if media else "")
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{title}</title><style>{_STYLE}{style}</style>"
    )
    body = "\n".join([f"<h1>{title}</h1>", contents, *parts])
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'.encode()
    )


def text(value: Any) -> str:
    """Give a value as HTML text, escaped and on one line."""
    return html.escape(plain("none" if value is None else str(value), _MOST_CHARACTERS))


def note(value: str) -> str:
    """Write a paragraph."""
    return f"<p>{text(value)}</p>"


def figure(pictures: Sequence[Picture], name: str, *, long: bool = True) -> str:
    """Show the picture of this name; nothing where there is none.

    Args:
        pictures: All of the page.
        name: Which.
        long: Whether it keeps its own size: an utterance of 20 s cannot be read in the width of a page.
    """
    for picture in pictures:
        if picture.name == name:
            data = base64.b64encode(picture.data).decode()
            kind = "long" if long else "small"
            image = f'<img class="{kind}" alt="{text(picture.alt)}" src="data:image/png;base64,{data}">'
            return f"<figure>{_region('Picture: ' + picture.alt)}{image}</div></figure>"
    return ""


def _region(label: str) -> str:
    """Open what may be wider than the page: it scrolls by itself, also by keyboard."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{text(label)}">'


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool | Container[str] = False
) -> str:
    """Write a table whose first cells name the rows.

    Args:
        caption: What it shows.
        head: Names of the columns.
        rows: Cells; all are escaped.
        words: Whether cells are text and no numbers, or the columns of which this is true.
    """
    are_text = [words if isinstance(words, bool) else cell in words for cell in head]
    columns = "".join(
        f'<th scope="col" class="text">{text(cell)}</th>' if kind else f'<th scope="col">{text(cell)}</th>'
        for kind, cell in zip(are_text, head, strict=True)
    )
    opened = ['<td class="text" dir="auto">' if kind else "<td>" for kind in are_text[1:]]
    lines = [
        f'<tr><th scope="row" dir="auto">{text(first)}</th>'
        + "".join(f"{kind}{text(cell)}</td>" for kind, cell in zip(opened, rest, strict=True))
        + "</tr>"
        for first, *rest in rows
    ]
    body = "\n".join(lines)
    return (
        f"{_region(caption)}<table><caption>{text(caption)}</caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, inner: str) -> str:
    """Write what is shown when it is asked for, and on paper; a browser opens it without JavaScript.

    Args:
        summary: What it holds.
        inner: HTML.
    """
    return f"<details><summary>{text(summary)}</summary>{inner}</details>"


def verbatim(caption: str, lines: Sequence[str]) -> str:
    """Write lines to be copied, each as it is but on one line.

    Args:
        caption: What they are.
        lines: Of them.
    """
    return f"<p>{text(caption)}</p>{_region(caption)}<pre>{chr(10).join(map(text, lines))}</pre></div>"
