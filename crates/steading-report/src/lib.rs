//! Renders events for the terminal and for files.
