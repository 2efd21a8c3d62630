//! What Linux knows of processes, from `/proc`: their CPU time, their memory, and which one listens on a port. On other
//! systems, and for processes that this user may not see, there are no figures.

pub(crate) mod listener;
pub(crate) mod stat;
pub(crate) mod usage;
