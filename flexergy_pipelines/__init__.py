"""What the platform knows, as plain typed functions and small classes; imports none of the other rooms."""
