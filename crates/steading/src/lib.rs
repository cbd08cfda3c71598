//! Write system tests of clusters of virtual machines.
