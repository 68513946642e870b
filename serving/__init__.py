"""What runs beside Triton: contracts, releases, the server and the client; no training library."""

if __name__ == "serving":  # imported by its old name, from a checkout
    from shopsight.old_names import provide

    provide(__name__)
