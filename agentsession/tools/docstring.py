"""What a docstring says: of the function, and of each parameter. Google, numpy and Sphinx style."""

from __future__ import annotations


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description (summary, body, what is returned), and one for each parameter that has one."""
    if not text.strip():
        return "", {}
    import docstring_parser

    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return text.strip(), {}
    described = {each.arg_name: _line(each.description) for each in parsed.params if each.description}
    parts = [(parsed.description or "").strip()]
    if parts[0] and parsed.returns is not None and parsed.returns.description:
        parts.append(f"Returns: {_line(parsed.returns.description)}")
    return "\n\n".join(part for part in parts if part), described


def _line(text: str) -> str:
    return " ".join(text.split())
