"""Scores of decisions against events, and the report that shows them."""
