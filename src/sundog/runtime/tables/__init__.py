"""Tables of a run: their queries over inputs and ended tables, and the rows that these give."""
