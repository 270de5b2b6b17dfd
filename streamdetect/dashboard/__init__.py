"""The live page: what a monitor's outlets and the raw stream say, in a browser."""
