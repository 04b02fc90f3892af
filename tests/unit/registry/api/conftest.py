import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own string escapes, seen when it is first compiled
    import salad_cloud_sdk  # noqa: F401
