"""What a training leaves: its folder, its checkpoint while it lasts, and how both are read back."""
