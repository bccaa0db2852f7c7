"""Pictures that a face detector learns from, and how well it agrees with its teacher."""
