"""Files that `new` fills in and writes."""
