"""Runs each query of a page of questions over a Parquet export, replaces the output below it, and draws the picture below
that: questions.py PAGE EXPORT"""

import contextlib
import io
import os
import re
import sys
import unicodedata
from pathlib import Path

import duckdb
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (after the choice of a backend without a screen)

# A query, its output, and perhaps a picture of its rows.
ANSWER = re.compile(r"```sql\n(?P<query>[^`]*)```\n\n```text\n[^`]*```\n(\n!\[[^]]*\]\((?P<picture>[^)]+)\))?")
SHOWN_ROWS = 12
COLOR = "#2f6fb2"


def draw_messages_a_day(axes, rows):
    axes.plot([row["day"] for row in rows], [row["messages"] for row in rows], color=COLOR, linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("messages a day")


def draw_first_answer(axes, rows):
    bars = axes.bar([row["people"] for row in rows], [row["median_hours"] for row in rows], color=COLOR)
    axes.bar_label(bars)
    axes.set_xlabel("people in the conversation")
    axes.set_ylabel("median hours to the first answer")


def draw_emoji(axes, rows):
    rows = rows[::-1]
    axes.barh([name_of(row["emoji"]) for row in rows], [row["added"] for row in rows], color=COLOR, label="added")
    axes.barh([name_of(row["emoji"]) for row in rows], [row["taken_back"] for row in rows], color="#c55a11",
              label="of these taken back")
    axes.set_xlabel("reactions")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def draw_read_through(axes, rows):
    axes.plot([0] + [row["days"] for row in rows], [0] + [row["percent_read"] for row in rows], color=COLOR, marker="o")
    axes.set_ylim(0, 100)
    axes.set_xlabel("days after the message")
    axes.set_ylabel("% of the others who have read it")


def draw_busiest_hours(axes, rows):
    counts = [[0] * 24 for _ in range(7)]
    days = {row["weekday"]: row["day"] for row in rows}
    for row in rows:
        counts[row["weekday"] - 1][row["hour"]] = row["messages"]
    image = axes.imshow(counts, cmap="Blues", aspect="auto")
    axes.figure.colorbar(image, label="messages")
    axes.set_yticks(range(7), [days[weekday] for weekday in range(1, 8)])
    axes.set_xlabel("hour (UTC)")
    axes.grid(False)


def draw_retention(axes, rows):
    months = [1, 2, 3, 6]
    for index, row in enumerate(rows):
        percents = [100] + [row[f"after_{month}"] for month in months]
        shade = pyplot.get_cmap("viridis")(index / len(rows))
        axes.plot([0] + months, percents, marker="o", color=shade, label=f"{row['joined']:%b %Y}")
    axes.set_ylim(0, 105)
    axes.set_xlabel("months after the first message")
    axes.set_ylabel("% who write in that month")
    axes.legend(frameon=False, title="newcomers of")


DRAWINGS = {
    "messages-a-day": draw_messages_a_day,
    "first-answer": draw_first_answer,
    "emoji": draw_emoji,
    "read-through": draw_read_through,
    "busiest-hours": draw_busiest_hours,
    "retention": draw_retention,
}


def name_of(emoji):
    """The names of an emoji's characters: the fonts of the pictures have no emoji."""
    names = [unicodedata.name(character).lower() for character in emoji if character not in "\u200d\ufe0e\ufe0f"]
    return " + ".join(re.sub("emoji modifier |regional indicator symbol ", "", name) for name in names)


def draw(path, rows):
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    DRAWINGS[path.stem.removeprefix("question-")](axes, rows)
    # Without it, the file names the version of matplotlib.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def answer(connection, found, folder):
    relation = connection.sql(found["query"])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        relation.show(max_rows=SHOWN_ROWS, max_width=100)
    if found["picture"]:
        rows = [dict(zip(relation.columns, row)) for row in relation.fetchall()]
        draw(folder / found["picture"], rows)
    output = f"```sql\n{found['query']}```\n\n```text\n{printed.getvalue().strip()}\n```\n"
    return output + (found.group(2) or "")


def main():
    page, export = Path(sys.argv[1]).resolve(), sys.argv[2]
    os.chdir(export)
    connection = duckdb.connect()
    connection.execute(Path("views.sql").read_text())
    connection.execute("SET TimeZone = 'UTC'")
    page.write_text(ANSWER.sub(lambda found: answer(connection, found, page.parent), page.read_text()))


main()
