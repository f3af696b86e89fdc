"""Tools of backends that connect to us: one stream of each, the presence of all, and calls of whichever has room."""
