//! Listeners, limits and one thin handler per protocol.
