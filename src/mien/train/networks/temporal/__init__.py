"""Heads that read windows of frames: recurrent, convolutional, and by attention."""
