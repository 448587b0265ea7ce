//! A typed client over HTTP and gRPC.
