"""Faults made for real; README.md is the table of what the course says to each."""
