"""Where samples come from: recordings, the simulator, Lab Streaming Layer."""
