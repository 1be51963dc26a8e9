"""What a page cannot show."""


class Missing(LookupError):
    """Nothing of that name is there: status 404."""
