//! The demo: an embedded broker and a generator of events.
