"""Objects: from a mask to instances and their measurements."""
