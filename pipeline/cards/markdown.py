"""A card as Markdown: sections, tables and lists."""

from collections.abc import Sequence


def page(sections: Sequence[str]) -> str:
    """Write sections with a line between them; those that are empty are left out."""
    return "\n\n".join(section for section in sections if section) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def bullets(lines: Sequence[str]) -> str:
    """Write a list."""
    return "\n".join(f"- {line}" for line in lines)


def share(value: float) -> str:
    """Write a share from 0 to 1 as a percentage."""
    return f"{100 * value:.2f} %"
