//! Fake engine, contract suites and server starters for tests.
