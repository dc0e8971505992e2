"""How sentences say a figure."""


def figure(value: float) -> str:
    """Four digits that count; a thousand and more as a whole number, never as a power of ten.

    >>> figure(6.76712), figure(39811.0), figure(103.4), figure(0.000123456), figure(-12345.6)
    ('6.767', '39811', '103.4', '0.0001235', '-12346')
    """
    return f"{value:.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def odds(value: float) -> str:
    """Two digits that count, and whole numbers from ten on.

    >>> odds(4.71), odds(103.4), odds(0.0123), odds(2e20)
    ('4.7', '103', '0.012', '2e+20')
    """
    return f"{value:.0f}" if 10 <= abs(value) < 1e9 else f"{value:.2g}"
