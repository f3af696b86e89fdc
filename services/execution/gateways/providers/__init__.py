"""Tools of gRPC servers. What speaks a protocol is imported when the first server that speaks it is."""
