"""The single things that masks and boxes select."""
