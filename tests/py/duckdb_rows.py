"""Runs SQL of the standard input with DuckDB in a folder, after views.sql if there is one, and prints the rows of the
last statement as lines of JSON."""

import datetime
import json
import os
import sys

import duckdb


def text(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime.datetime):
        utc = value.astimezone(datetime.timezone.utc)
        return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03}Z"
    raise TypeError(type(value))


os.chdir(sys.argv[1])
connection = duckdb.connect()
if os.path.exists("views.sql"):
    connection.execute(open("views.sql").read())
result = connection.execute(sys.stdin.read())
columns = [column[0] for column in result.description]
for row in result.fetchall():
    print(json.dumps(dict(zip(columns, row)), default=text))
