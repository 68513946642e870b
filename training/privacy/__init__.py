"""What customers may ask for: to be forgotten, to see what is held, to allow or forbid a purpose."""
