"""What training minimises: losses over tables with missing labels, and their weighted sum."""
