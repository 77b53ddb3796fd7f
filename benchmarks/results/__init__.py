"""One record a cell, and the files that hold it."""
