"""Columns of text, as wide as what is in them: nothing is cut off, whatever the terminal's width or into a pipe."""

from collections.abc import Collection, Sequence

from rich.text import Text

GAP = 2


def aligned(rows: Sequence[Sequence[Text]], *, right: Collection[int] = ()) -> Text:
    """The rows, a line each; the columns numbered in `right` end where the others begin."""
    number = max(map(len, rows), default=0)
    widths = [max(row[column].cell_len for row in rows if column < len(row)) for column in range(number)]
    return Text("\n").join(_line(row, widths, right) for row in rows)


def _line(row: Sequence[Text], widths: Sequence[int], right: Collection[int]) -> Text:
    line = Text()
    for column, cell in enumerate(row):
        room = Text(" " * (widths[column] - cell.cell_len))
        line.append_text(Text(" " * GAP if column else ""))
        line.append_text(room + cell if column in right else cell + room)
    line.rstrip()
    return line
