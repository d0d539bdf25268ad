"""The verbs of `ugro`, one module each: arguments in, one call of a plain function, output."""
