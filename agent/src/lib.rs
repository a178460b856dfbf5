//! The agent: a session with the coordinator, and slots that keep framework processes warm.
//!
//! An agent decides nothing about a run. It carries out leases, reports facts in the order in which they happened, and
//! sees to it that no process outlives its slot. It never sees the coordinator's code: it knows it by the wire only.

mod batch;
mod clock;
mod framework;
pub mod guard;
mod hooks;
mod left;
mod listing;
mod machine;
mod process;
mod revision;
mod runner;
mod session;
mod slot;
mod sockets;
mod standing;

pub use framework::{Framework, RecogniseError, recognise};
pub use left::{AgentError, Left};
pub use listing::{ListError, ListedUnit, list};
pub use process::{Played, Stage};
pub use session::{Agent, AgentConfig, RunName};
pub use standing::{Alone, News, stand};
