"""Tables of a flow as they are written: their sources, their queries and what reads them."""
