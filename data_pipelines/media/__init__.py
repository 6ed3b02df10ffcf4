"""Media in, from files or bytes: audio at 16 kHz, RGB images, video frames with their times, and what a file holds."""
