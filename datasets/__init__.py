"""Data sets that the article's program can train on."""
