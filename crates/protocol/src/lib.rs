//! Bytes to requests and back: Open Inference Protocol, TF Serving, MLflow scoring, plain JSON. No sockets.
