"""Planning and launching on Cloud TPU slices."""
