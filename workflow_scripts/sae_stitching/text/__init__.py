"""From where a text comes to the tokens of a study."""
