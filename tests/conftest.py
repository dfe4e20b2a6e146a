from hypothesis import settings

pytest_plugins = ["tests.support.dashboard", "tests.support.browser"]

# No deadline: a slow machine is no failure. Fewer examples where many tests share two cores.
settings.register_profile("default", deadline=None, max_examples=50)
settings.load_profile("default")
