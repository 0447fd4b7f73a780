"""What a page of the docs says that a command prints."""

import re


def commands(page: str, *, prompt: str = "$ isoflop ") -> list[tuple[list[str], list[str]]]:
    """Each command of the page, and the pieces that its output must hold, in their order."""
    found: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL):
        for line in block.splitlines():
            if line.startswith(prompt):
                found.append((line.removeprefix(prompt).split(), []))
            else:
                found[-1][1].extend(filter(None, (piece.strip() for piece in line.split("..."))))
    return found


def holds(shown: str, pieces: list[str], *, command: list[str]) -> None:
    """Assert that all pieces are shown, in their order."""
    at = 0
    for piece in pieces:
        at = shown.find(piece, at)
        assert at >= 0, f"{' '.join(command)}: no {piece!r} in\n{shown}"
