"""The routers' work before and after they call members, in plain Python without Triton."""
