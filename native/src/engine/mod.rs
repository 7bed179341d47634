//! The engine: packet threads, and the calls that reach them.
//!
//! A stream belongs to one packet thread, with its sockets, viewers and relays; nothing in the packet path is shared
//! or locked. A call from outside is a closure that is run by the owning thread and answers over a channel, in
//! bounded time. Events go the other way through [`EventRing`].

mod calls;
mod connection;
mod context;
mod figures;
mod gap_wait;
mod gate;
mod members;
mod notes;
mod options;
mod outlets;
mod peers;
mod pipeline;
mod ports;
mod quality;
mod relays;
mod source;
mod stream;
mod thread;
mod viewers;

pub use calls::{Engine, MAX_THREADS};
pub use figures::{Description, StreamStats, ViewerStats};
pub use options::{EngineError, Options, RelayTarget, Result};
pub use peers::WebrtcOptions;
pub use ports::PortStats;
pub use quality::Figures;
pub use source::Transport;
