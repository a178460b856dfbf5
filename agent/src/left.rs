//! How an agent's session with the coordinator ends.

use std::io;
use tonic::Code;

/// How a session ended in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// As it was told to by whoever started it.
    Told,
    /// The coordinator needs it no more.
    Dismissed { reason: String, failed: bool },
}

/// Why a session ended otherwise.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The connection is gone. What the agent holds may still stand: another session is worth trying.
    #[error("the connection to the coordinator was lost: {message}")]
    Cut { message: String },
    /// The coordinator does not want this agent, and will not if it tries again.
    #[error("the coordinator refuses this agent: {message}")]
    Refused { message: String },
    #[error("the coordinator sent a message that is not allowed: {what}")]
    Protocol { what: &'static str },
    #[error("cannot prepare the directory for sockets")]
    Sockets {
        #[source]
        source: io::Error,
    },
}

impl AgentError {
    pub(crate) fn of(status: &tonic::Status) -> AgentError {
        let message = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => AgentError::Refused { message },
            _ => AgentError::Cut { message },
        }
    }
}
