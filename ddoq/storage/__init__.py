"""Files that are whole or absent, hashes of what made them, and the record of where they were made."""
