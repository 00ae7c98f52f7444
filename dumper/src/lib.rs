//! Makes a checkpoint from frozen processes.
