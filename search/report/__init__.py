"""A study as one page: what was searched, what came out, and whether to believe it."""
