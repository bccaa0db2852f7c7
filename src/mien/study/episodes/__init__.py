"""What happens in a recording: segments, blinks, and epochs around events."""
