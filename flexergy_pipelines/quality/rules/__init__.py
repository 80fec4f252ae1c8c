"""Rules of detection, one subject a file. Each looks at a regular series and returns what it found."""
