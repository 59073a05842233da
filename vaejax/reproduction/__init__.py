"""Published numbers, and the runs that reproduce them.

A row is one number: paper, table, cell, protocol, published value, and the run whose
evaluation gives ours. Rows are data, in `rows/*.toml`; what a run came to is kept in a
JSON file for each row, from which `RESULTS.md` and the README's table are generated.
"""
