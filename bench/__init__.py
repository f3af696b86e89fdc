import libs  # noqa: F401  it sets gRPC up before that is imported
