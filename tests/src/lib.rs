//! End-to-end tests of the suite.
