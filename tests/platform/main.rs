//! Whole platforms in the process of the test, as `thalweg up` starts them.

mod up;
