"""What the routers do with a request before and after the members: plain Python that knows no Triton."""
