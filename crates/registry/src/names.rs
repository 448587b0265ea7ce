//! Which names, keys and paths there may be.
