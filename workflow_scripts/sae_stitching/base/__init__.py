"""What every other package stands on: errors for people, files that are whole, names, progress."""
