"""The detailer: resamples every masked region at a larger size and blends it back."""
