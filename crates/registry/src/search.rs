//! The language of searches: filters and orders.
