//! The driver, seen from outside: each case runs the program `scenarios` and looks at its exit
//! status, its output, its results, and what is left of it.

mod bazel;
mod endings;
mod interrupts;
mod libtest;
mod machines;
mod names;
mod order;
mod output;
mod screen;
mod support;
mod verbs;
