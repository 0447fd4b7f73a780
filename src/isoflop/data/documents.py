"""Which document each token of a packed sequence belongs to.

An end of text belongs to the document behind it: from it alone that document's first token is said, as it is where a
model begins to write. So no prediction hangs on another document, and a row's loss is that of its documents one by one.

Legend: S sequences, T tokens.
"""

from isoflop.data.corrupt import Ids


def numbers(tokens_ST: Ids, *, end: int) -> Ids:
    """(S, T) number of each token's document within its row, from 0, or from 1 where the row begins with an end."""
    found: Ids = (tokens_ST == end).cumsum(1)
    return found
