"""Regions out of images, and back."""
